"""How gaps change: what was opened, filled and lost between two looks at a ledger.

Pure.  Blocks overtake one another by milliseconds on every wire; so a receiver looks once in a while, and
what opened and closed between two looks was never a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.export.ledger import Gap

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """The missing blocks as of a look, as ranges with both ends in them, and which of them are lost."""

    missing: tuple[Range, ...] = ()
    lost: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """Blocks ``first`` to ``last`` are ``opened``, ``filled`` or ``lost`` since the look before."""

    what: str
    first: int
    last: int


def look_at(gaps: Sequence[Gap]) -> Look:
    """What these gaps are as ranges."""
    missing = tuple((gap.first, gap.last) for gap in gaps)
    return Look(missing, tuple((gap.first, gap.first + gap.lost - 1) for gap in gaps if gap.lost))


def changes(before: Look, after: Look) -> list[Change]:
    """What happened between two looks."""
    found = [Change("opened", *each) for each in without(after.missing, before.missing)]
    found += [Change("filled", *each) for each in without(before.missing, after.missing)]
    found += [Change("lost", *each) for each in without(after.lost, before.lost)]
    return found


def without(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """The parts of sorted ranges that are in none of the others, sorted as well."""
    found, place = [], 0
    for first, last in ranges:
        start = first
        while place < len(others) and others[place][1] < start:
            place += 1
        at = place
        while at < len(others) and others[at][0] <= last:
            if others[at][0] > start:
                found.append((start, others[at][0] - 1))
            start = max(start, others[at][1] + 1)
            at += 1
        if start <= last:
            found.append((start, last))
    return found
