"""The SSH wire encoding (RFC 4251, section 5), read strictly."""

from __future__ import annotations

from typing import Final

_LENGTH: Final = 4
#: No field of a key or signature we accept comes near this.
MAX_STRING: Final = 16 * 1024


class WireError(ValueError):
    """The bytes are not what the encoding allows."""


class WireReader:
    """Takes fields from the front of ``data``; every byte must be taken in the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def raw(self, count: int) -> bytes:
        """Exactly ``count`` bytes."""
        end = self._position + count
        if end > len(self._data):
            raise WireError("truncated")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def byte(self) -> int:
        return self.raw(1)[0]

    def uint32(self) -> int:
        return int.from_bytes(self.raw(_LENGTH), "big")

    def string(self) -> bytes:
        """A byte string preceded by its length."""
        length = self.uint32()
        if length > MAX_STRING:
            raise WireError("a field is too long")
        return self.raw(length)

    def text(self) -> str:
        """A string of printable ASCII."""
        value = self.string()
        if not value.isascii() or not (text := value.decode("ascii")).isprintable():
            raise WireError("a name is not printable ASCII")
        return text

    def positive(self) -> int:
        """An ``mpint`` above zero in its shortest form."""
        value = self.string()
        number = int.from_bytes(value, "big")
        if number == 0 or value != mpint(number):
            raise WireError("a number is not positive or not in its shortest form")
        return number

    def end(self) -> None:
        """Refuse bytes that nobody asked for."""
        if self._position != len(self._data):
            raise WireError("trailing bytes")


def string(value: bytes) -> bytes:
    """``value`` preceded by its length."""
    return len(value).to_bytes(_LENGTH, "big") + value


def mpint(number: int) -> bytes:
    """A positive number as the bytes of an ``mpint``, without the length."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
