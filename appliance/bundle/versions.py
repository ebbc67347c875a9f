"""Which of two versions of a package is the older one, by the rules of where it comes from.

A reviewer looks for packages that went back: an old version may have holes that were closed since.
Commits, digests and versions of data have no order; of them nothing is said.
"""

from __future__ import annotations

import re
from typing import Final

from packaging.version import InvalidVersion, Version

_PARTS: Final = re.compile(r"([^0-9]*)([0-9]*)")
_LETTERS_FIRST: Final = 256  # above every letter


def is_older(kind: str, version: str, other: str) -> bool:
    """Whether ``version`` certainly is older than ``other``; both of packages of one origin's ``kind``."""
    if kind == "debian":
        return _debian_order(version) < _debian_order(other)
    if kind in {"python", "toolkit"}:
        try:
            return Version(version) < Version(other)
        except InvalidVersion:
            return False
    return False


_Order = list[tuple[tuple[int, ...], int]]


def _debian_order(version: str) -> tuple[int, _Order, _Order]:
    """What Debian's versions are sorted by (Policy, 5.6.12): epoch, upstream version, revision."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    return int(epoch), _order(upstream if hyphen else rest), _order(revision if hyphen else "0")


def _order(text: str) -> _Order:
    """Text and numbers by turns; a tilde sorts before the end, that before letters, these before signs."""
    return [
        ((*map(_rank, letters), 0), int(digits or "0")) for letters, digits in _PARTS.findall(text or "0")
    ]


def _rank(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + _LETTERS_FIRST
