"""Layouts in the form that NVIDIA's mig-parted reads (its api/spec/v1, ``version: v1``).

Written as JSON, which is YAML too: a node has no reader of YAML in its standard library, and mig-parted
reads either (decision 81).
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The one configuration of a file of ours, by mig-parted's ``--selected-config``.
CONFIG: Final = "appliance"


def mig_parted(layout: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The file's content.

    Args:
        layout: of every GPU, by its number, the names of its slices; none: it stays whole.
    """
    rows: dict[tuple[str, ...], list[int]] = {}
    for index, names in enumerate(layout):
        rows.setdefault(tuple(sorted(names)), []).append(index)
    return {
        "version": "v1",
        "mig-configs": {
            CONFIG: [
                {
                    "devices": indexes,
                    "mig-enabled": bool(names),
                    **({"mig-devices": dict(Counter(names))} if names else {}),
                }
                for names, indexes in rows.items()
            ]
        },
    }


def mig_parted_text(layout: Sequence[Sequence[str]]) -> str:
    """The file."""
    return json.dumps(mig_parted(layout), indent=2) + "\n"
