"""How many and how much, in sentences and tables."""

from __future__ import annotations

from appliance.bundle.media.sizes import size_text


def counted(number: int, noun: str) -> str:
    """``1 package``, ``1,234 packages``; for nouns that take an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def exact_size(size: int) -> str:
    """``141.1 GB (141,107,412,992 bytes)``: to read, and to compare."""
    readable, exact = size_text(size), counted(size, "byte")
    return exact if readable.endswith("bytes") else f"{readable} ({exact})"
