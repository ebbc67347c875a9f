"""How many and how much, in sentences and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.bundle.media.sizes import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Names in a message before "…".
_NAMED: Final = 5


def counted(number: int, noun: str) -> str:
    """``1 package``, ``1,234 packages``; for nouns that take an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def exact_size(size: int) -> str:
    """``141.1 GB (141,107,412,992 bytes)``: to read, and to compare."""
    readable, exact = size_text(size), counted(size, "byte")
    return exact if readable.endswith("bytes") else f"{readable} ({exact})"


def some(names: Sequence[str]) -> str:
    """The first of them, for a message that need not name all."""
    return ", ".join(names[:_NAMED]) + (" …" if len(names) > _NAMED else "")
