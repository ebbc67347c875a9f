"""Secrets that do not show by accident: not printed, not formatted, not in JSON, not pickled.

A secret's value is had by ``reveal`` alone, which is easy to find in the code; there are few places.
"""

from __future__ import annotations

import secrets
from typing import Final, NoReturn

#: Letters and digits that are not taken for one another; 32 of them, five bits each.
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
#: As many bytes as a drive's PIN may have (C_PIN, TCG Core Specification 2.01); of these letters 160 bits.
PIN_LENGTH: Final = 32
_GROUPS: Final = 8
_GROUP: Final = 5


class Secret:
    """A PIN, a passphrase, or whatever else opens something."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return "<secret>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and secrets.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret is no key of anything")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def new_pin() -> Secret:
    """An administrator's PIN of 160 bits."""
    return Secret(_letters(PIN_LENGTH))


def new_passphrase() -> Secret:
    """A passphrase of 200 bits that a person can type at a console: eight groups of five."""
    return Secret(b"-".join(_letters(_GROUP) for _ in range(_GROUPS)))


def _letters(count: int) -> bytes:
    return "".join(secrets.choice(ALPHABET) for _ in range(count)).encode("ascii")
