"""The twelve kinds of hostile input, and how a case says to which it belongs.

A module, test or parameter carries the mark ``group``; what is good and accepted, so that the refusals
beside it mean something, carries ``control``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GROUPS: Final = {
    1: "paths",
    2: "collisions",
    3: "kinds of files",
    4: "the set of files",
    5: "races",
    6: "archives and parity",
    7: "parsers",
    8: "signatures and keys",
    9: "thresholds",
    10: "versions and replay",
    11: "state and clock",
    12: "output",
}


def cases(number: int, table: Mapping[str, Any], *, control: Iterable[str] = ()) -> list[Any]:
    """The entries of a table as parameters of one group, each under its name."""
    good = set(control)
    return [
        pytest.param(
            *(each if isinstance(each, tuple) else (each,)),
            id=name,
            marks=[pytest.mark.group(number), *([pytest.mark.control] if name in good else [])],
        )
        for name, each in table.items()
    ]
