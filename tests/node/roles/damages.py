"""Damages that several tasks put right, made at once: a run costs the same for one of them as for two."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def together(damages: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Damages in rounds, in each of which none is for the task of another.

    Args:
        damages: each with the task that puts it right.
    """
    tasks = dict.fromkeys(damages.values())
    kinds = [[damage for damage, task in damages.items() if task == each] for each in tasks]
    return [tuple(filter(None, one)) for one in itertools.zip_longest(*kinds)]
