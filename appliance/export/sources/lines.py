"""Cutting a stream of bytes into lines, of which none takes more memory than it may.  Pure."""

from __future__ import annotations

from typing import NamedTuple


class Line(NamedTuple):
    """A line without its end: of a long one the beginning, and the ``size`` that it had as a whole."""

    data: bytes
    size: int


class Lines:
    """What came of a line that has not ended is kept; of one longer than ``most``, so many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rest = b""
        self._size = 0

    @property
    def held(self) -> int:
        """Bytes of the line that has not ended."""
        return self._size

    def feed(self, piece: bytes) -> list[Line]:
        """The lines that end in this piece."""
        *ended, rest = piece.split(b"\n")
        if not ended:
            self._keep(rest)
            return []
        self._keep(ended[0])
        found = [Line(self._rest, self._size)]
        found += [Line(each[: self._most], len(each)) for each in ended[1:]]
        self._rest, self._size = b"", 0
        self._keep(rest)
        return found

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) < self._most:
            self._rest = (self._rest + piece)[: self._most]
        self._size += len(piece)

    def end(self) -> list[Line]:
        """What is left although its end never came; forgotten after that."""
        found = [Line(self._rest, self._size)] if self._size else []
        self._rest, self._size = b"", 0
        return found
