"""Runs: blocks of one history that follow one another without a hole, of which only the ends are kept."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.export.block import BlockHeader

#: Restarts of one run that are told apart; of older ones a fork is taken for a repetition.
MAX_EPOCHS: Final = 256


@dataclass(slots=True)
class Run:
    """Blocks ``first`` to ``last`` without a hole, with sequences ``first_sequence`` to ``last_sequence``.

    ``previous`` is the hash that the first names, ``hash`` that of the last; ``epochs`` are pairs of the
    first block of each epoch in it, and the epoch.
    """

    first: int
    last: int
    first_sequence: int
    last_sequence: int
    previous: bytes
    hash: bytes
    epochs: list[tuple[int, int]]

    def epoch_of(self, block: int) -> int | None:
        """The epoch that has this block of the run; None if that is forgotten."""
        place = bisect_right(self.epochs, block, key=lambda each: each[0])
        return self.epochs[place - 1][1] if place else None


def place_of(runs: list[Run], block: int) -> int:
    """How many of the runs begin at this block or before it."""
    return bisect_right(runs, block, key=lambda each: each.first)


def around(runs: list[Run], block: int) -> tuple[Run | None, Run | None]:
    """The last run that begins at this block or before it, and the one after that."""
    place = place_of(runs, block)
    return runs[place - 1] if place else None, runs[place] if place < len(runs) else None


def touches(runs: list[Run], block: int) -> bool:
    """Whether the block makes a run longer, and no new one."""
    before, after = around(runs, block)
    return (before is not None and before.last + 1 == block) or (
        after is not None and after.first == block + 1
    )


def insert(runs: list[Run], header: BlockHeader) -> list[int]:
    """Put a block in that no run has; says which blocks do not follow the one before them."""
    place = place_of(runs, header.block)
    runs.insert(
        place,
        Run(
            header.block,
            header.block,
            header.first,
            header.last,
            header.previous,
            header.hash,
            [(header.block, header.epoch)],
        ),
    )
    found = []
    for left in (place, place - 1):
        if 0 <= left < len(runs) - 1 and runs[left].last + 1 == runs[left + 1].first:
            found += [] if _follows(runs[left], runs[left + 1]) else [runs[left + 1].first]
            _join(runs, left)
    return found


def _follows(left: Run, right: Run) -> bool:
    return right.previous == left.hash and right.first_sequence == left.last_sequence + 1


def _join(runs: list[Run], place: int) -> None:
    left, right = runs[place], runs.pop(place + 1)
    epochs = left.epochs + [each for each in right.epochs if each[1] != left.epochs[-1][1]]
    left.last, left.hash = right.last, right.hash
    left.last_sequence = max(left.last_sequence, right.last_sequence)
    left.epochs = epochs[-MAX_EPOCHS:]
