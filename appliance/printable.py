"""Text from outside, as it may be shown on a terminal."""

from __future__ import annotations

import re
from typing import Final

#: All but plain ASCII; most of it is harmless, and looked at one by one.
_UNUSUAL: Final = re.compile(r"[^ -~]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""The text with everything spelled out that a terminal would act on, or a reader not see.

    Control characters (escape sequences begin with one), and those that turn the direction of writing,
    have no width, or mean a space without being one, become escapes: ``\x1b``, ``\u202e``.

    Args:
        text: any.
        lines: whether line feeds and tabs stay.
    """
    kept = "\n\t" if lines else ""

    def shown(found: re.Match[str]) -> str:
        letter = found[0]
        return letter if letter.isprintable() or letter in kept else ascii(letter)[1:-1]

    return _UNUSUAL.sub(shown, text)
