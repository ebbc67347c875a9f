"""Patterns of what is redacted before it leaves: which texts are one.  Pure."""

from __future__ import annotations

import re


def compiled(text: str) -> re.Pattern[str]:
    """The pattern that this text is.

    Raises:
        ValueError: it is none, or it matches where nothing is.
    """
    try:
        pattern = re.compile(text)
    except re.error as fault:
        raise ValueError(f"not a pattern: {fault}") from fault
    if pattern.fullmatch(""):
        raise ValueError("a pattern that matches nothing at all redacts everything")
    return pattern
