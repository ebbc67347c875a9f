"""Deciding which sets are to be mended, and in which order, before anything is done: pure.

A set can be mended if it lacks no more blocks than it has recovery blocks.  What is mended with one set
is no longer lost for another, so a recovery volume may first bring back what a bundle's own set lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


@dataclass(frozen=True)
class Lack:
    """What one set lacks: lost blocks by file, of the files that are not sound; what it can give."""

    lost: Mapping[str, int]
    recovery: int

    def blocks(self, mended: Collection[str]) -> int:
        """How many blocks are lost once these files are mended."""
        return sum(count for path, count in self.lost.items() if path not in mended)


@dataclass(frozen=True)
class Decision:
    """The sets to be mended, by their index, in this order; and the files that then are still lost."""

    order: tuple[int, ...]
    unmended: tuple[str, ...]


def decide_order(lacks: Sequence[Lack], goals: Collection[str]) -> Decision:
    """Which sets bring back these files.

    Sets that lack least come first.  A set that holds none of the goals is mended only if another one
    cannot be without it.
    """
    mended: set[str] = set()
    order: list[int] = []
    while missing := set(goals) - mended:
        ready = [
            index
            for index, lack in enumerate(lacks)
            if index not in order and lack.lost.keys() - mended and lack.blocks(mended) <= lack.recovery
        ]
        if not ready:
            break
        ready.sort(key=lambda index: (not lacks[index].lost.keys() & missing, lacks[index].blocks(mended)))
        order.append(ready[0])
        mended |= lacks[ready[0]].lost.keys()
    return Decision(_needed(lacks, order, goals), tuple(sorted(set(goals) - mended)))


def _needed(lacks: Sequence[Lack], order: Sequence[int], goals: Collection[str]) -> tuple[int, ...]:
    """The order without the sets that nothing depends on."""
    kept = list(order)
    for index in reversed(order):
        without = [each for each in kept if each != index]
        if _brings(lacks, without, goals) == _brings(lacks, kept, goals):
            kept = without
    return tuple(kept)


def _brings(lacks: Sequence[Lack], order: Sequence[int], goals: Collection[str]) -> set[str]:
    mended: set[str] = set()
    for index in order:
        if lacks[index].blocks(mended) <= lacks[index].recovery:
            mended |= lacks[index].lost.keys()
    return mended & set(goals)
