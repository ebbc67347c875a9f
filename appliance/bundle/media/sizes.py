"""Sizes of media as people write them: ``64GB`` on the stick's shell, ``58GiB`` in a file manager."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from appliance.errors import Usage

_UNITS: Final = {
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_SIZE: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?([A-Za-z]*)")
#: No medium is larger; what is, was a slip of the keyboard.
_MOST: Final = 1000 * 10**12


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64GB``, ``1.5 TB`` or ``58GiB``.

    Raises:
        Usage: misspelled, without unit, or no size that a medium has.
    """
    match = _SIZE.fullmatch(text)
    if not match or match[2] not in _UNITS:
        raise Usage(
            "a size is misspelled",
            found=ascii(text),
            wanted=f"a number and one of {', '.join(_UNITS)}: 64GB as on the stick, or 58GiB",
        )
    size = int(Fraction(match[1]) * _UNITS[match[2]])
    if not 0 < size <= _MOST:
        raise Usage("no medium has this size", found=ascii(text), wanted="up to 1000TB")
    return size


def size_text(size: int) -> str:
    """A size in bytes for people: ``64.0 GB``."""
    for unit in ("TB", "GB", "MB"):
        if size >= _UNITS[unit]:
            return f"{size / _UNITS[unit]:,.1f} {unit}"
    return f"{size:,} bytes"
