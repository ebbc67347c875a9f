"""Which records need no parser: JSON that all readers read alike and that is safe to look at.  Pure.

An object of texts alone, of printable ASCII without escapes, no key twice: what journalctl prints, but for
some entries.  It is read off the quotation marks, which without escapes are the ends of texts and nothing
else.  All records of a block are looked at together, since most of what that costs is for each look and not
for each byte; of what is not simple a parser decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Neither a terminal nor a parser acts on any of it.
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
#: What parts two records here; no record that is printable holds it.
_BETWEEN: Final = b"\n"
_TOGETHER: Final = b"}" + _BETWEEN + b"{"


def is_printable(record: bytes) -> bool:
    """Whether all of it is printable ASCII."""
    return not record.translate(None, _PRINTABLE)


def which_are_simple(records: Sequence[bytes]) -> list[bool]:
    """Of each record, whether it is simple."""
    if are_simple([each for each in records if b"\\" not in each]):
        return [b"\\" not in each for each in records]
    return [are_simple([each]) for each in records]


def are_simple(records: Sequence[bytes]) -> bool:
    """Whether all of these are simple."""
    if not records:
        return True
    joined = _BETWEEN.join(records)
    if b"\\" in joined or joined.translate(None, _PRINTABLE) != _BETWEEN * (len(records) - 1):
        return False
    # {, key, :, value, comma, key, :, value, }\n{, key, :, value, ... }
    parts = joined.split(b'"')
    if len(parts) % 4 != 1 or parts[0] != b"{" or parts[-1] != b"}":
        return False
    keys, colons, others = parts[1::4], parts[2::4], parts[4:-1:4]
    ends = len(records) - 1
    return (
        colons.count(b":") == len(colons)
        # Each of the line feeds parts two objects then, and no record has one in it: there are no more.
        and others.count(_TOGETHER) == ends
        and others.count(b",") == len(others) - ends
        and _each_has_other_keys(keys, others, ends)
    )


def _each_has_other_keys(keys: list[bytes], others: list[bytes], ends: int) -> bool:
    """Whether no object has a key twice; ``others`` is what stands between a value and the next key."""
    first, known = 0, keys[:0]
    for number in range(ends + 1):
        last = others.index(_TOGETHER, first) + 1 if number < ends else len(keys)
        names = keys[first:last]
        if names != known and len(set(names)) < len(names):
            return False
        first, known = last, names  # mostly the same ones again
    return True
