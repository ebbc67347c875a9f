"""Ranges of blocks as a person carries them from the receiver to the node: numbers and two check digits.

``41-57/83``: blocks 41 to 57; the digits are those of ISO/IEC 7064 MOD 97-10 over both numbers and the
node's id, so that a wrong digit, two that were swapped, or another node's range is noticed.
"""

from __future__ import annotations

import re
from typing import Final

from appliance.errors import Usage

_RANGE: Final = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?/([0-9]{2})")
_WIDTH: Final = 19


def range_text(first: int, last: int, node: bytes) -> str:
    """The range as it is written down."""
    numbers = str(first) if first == last else f"{first}-{last}"
    return f"{numbers}/{_check(first, last, node):02}"


def parse_range(text: str, node: bytes) -> tuple[int, int]:
    """Read what a person typed: the first block and the last.

    Raises:
        Usage: it is no range, or a digit is wrong, or it is of another node.
    """
    found = _RANGE.fullmatch(text.strip())
    if not found:
        raise Usage(
            "not a range of blocks", found=ascii(text)[:60], wanted="41-57/83, as the receiver says it"
        )
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first or int(found[3]) != _check(first, last, node):
        raise Usage(
            f"the check digits of {found[0]} are not those of its numbers",
            hint="compare each digit with what the receiver says, and that it is said of this node",
        )
    return first, last


def _check(first: int, last: int, node: bytes) -> int:
    digits = f"{int.from_bytes(node, 'big'):020}{first:0{_WIDTH}}{last:0{_WIDTH}}"
    return 98 - int(digits) * 100 % 97
