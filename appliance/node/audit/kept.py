"""What this station keeps of its installations: a node's baseline, and the digest that its record has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from appliance.node.audit.baseline import NAME
from appliance.node.runs import Stage

if TYPE_CHECKING:
    from pathlib import Path


def kept_here(state: Path, site: str, node: str) -> tuple[bytes | None, str]:
    """The baseline of a node's last installation from this station, and the digest its record has.

    Args:
        state: the station's folder of records.
        site: the inventory's site.
        node: the node's name.

    Returns:
        ``(None, "")`` where no installation from here has ended well.
    """
    found: tuple[str, bytes | None, str] = ("", None, "")
    for path in (state / "runs").glob(f"*/{node}/{Stage.RECORD}.json"):
        if path.parent.parent.name[13:] != site:
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            ended, digest = record["ended"], record["details"]["baseline"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if record["result"] == "done" and ended > found[0]:
            kept = path.with_name(NAME)
            found = (ended, kept.read_bytes() if kept.is_file() else None, digest)
    return found[1], found[2]
