"""How a ledger changes: gaps opened, filled and lost, and alarms, between two looks at it.

Pure.  Blocks overtake one another on every wire; so a receiver looks once in a while, and what opened and
closed between two looks was never a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.export.ledger import Ledger

Range = tuple[int, int]
#: What is counted in a ledger and never goes away: blocks, their numbers, checkpoints, records, changes.
ALARMS: Final = ("fork", "break", "contradiction", "dropped", "walls-changed")


@dataclass(frozen=True, slots=True)
class Look:
    """The missing blocks as ranges with both ends in them, which of them are lost, and the alarms."""

    missing: tuple[Range, ...] = ()
    lost: tuple[Range, ...] = ()
    alarms: tuple[int, ...] = (0,) * len(ALARMS)


@dataclass(frozen=True, slots=True)
class Change:
    """Blocks ``first`` to ``last`` are ``opened``, ``filled`` or ``lost`` since the look before."""

    what: str
    first: int
    last: int


def look_at(ledger: Ledger) -> Look:
    """What there is to tell of a ledger."""
    gaps = ledger.gaps()
    return Look(
        tuple((gap.first, gap.last) for gap in gaps),
        tuple((gap.first, gap.first + gap.lost - 1) for gap in gaps if gap.lost),
        (ledger.forked, len(ledger.breaks), ledger.contradictions, ledger.dropped, ledger.walls_changed),
    )


def changes(before: Look, after: Look) -> list[Change]:
    """What happened between two looks."""
    found = [Change("opened", *each) for each in without(after.missing, before.missing)]
    found += [Change("filled", *each) for each in without(before.missing, after.missing)]
    found += [Change("lost", *each) for each in without(after.lost, before.lost)]
    return found


def alarms(before: Look, after: Look) -> dict[str, int]:
    """How many more there are of each alarm."""
    pairs = zip(ALARMS, before.alarms, after.alarms, strict=True)
    return {name: new - old for name, old, new in pairs if new != old}


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
