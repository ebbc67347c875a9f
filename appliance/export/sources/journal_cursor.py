"""Cursors of the systemd journal, and what is missing between two of them.  Pure.

A cursor is what journald calls the place of an entry: ``s=…;i=…;b=…;m=…;t=…;x=…``.  Of it we read two
parts: ``s``, the sequence of numbers that the entry was counted in, and ``i``, its number there
(hexadecimal).  One journald counts all its files in one sequence, so a number that is passed over is an
entry that was thrown away before it was read, or that we may not read.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: In a line of ``journalctl --output=json``.  A text that an intruder logged cannot look like it: within a
#: JSON string each quotation mark has a backslash before it.
_IN_LINE = re.compile(rb'"__CURSOR" ?: ?"([ -!#-\[\]-~]{1,512})"')
_PART = re.compile(r"(?:^|;)([a-z])=([0-9a-f]{1,32})(?=;|$)")


class Entry(NamedTuple):
    """The sequence that an entry was counted in, and its number."""

    sequence: str
    number: int


def cursor_in(line: bytes) -> str:
    """The cursor of a line of JSON; empty if it has none."""
    found = _IN_LINE.search(line)
    return found[1].decode("ascii") if found else ""


def entry_of(cursor: str) -> Entry | None:
    """What a cursor counts; None if it is no cursor of a journal."""
    parts = dict(_PART.findall(cursor))
    if "s" not in parts or "i" not in parts:
        return None
    return Entry(parts["s"], int(parts["i"], 16))


def furthest(one: str, other: str) -> str:
    """Of two cursors that which counts further; the other one if they are counted in two sequences."""
    first, second = entry_of(one), entry_of(other)
    if first is None or second is None or first.sequence != second.sequence:
        return other
    return one if first.number > second.number else other


def passed_over(before: str, now: str) -> int | None:
    """How many entries are missing between two that were read one after the other; None if nobody knows."""
    first, second = entry_of(before), entry_of(now)
    if first is None or second is None or first.sequence != second.sequence:
        return None
    return max(0, second.number - first.number - 1)
