"""Where records come from: a local socket that takes datagrams, or lines on standard input.

A record is what a datagram or a line holds, as it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from appliance.export.payload import MAX_RECORD

if TYPE_CHECKING:
    from pathlib import Path

_MOST: Final = 256
_PIECE: Final = 256 * 1024


class Source(Protocol):
    """Something that can be waited for and read without waiting."""

    ended: bool

    def fileno(self) -> int: ...

    def read(self) -> list[bytes]:
        """Some records, if there are any now."""

    def close(self) -> None: ...


class DatagramSource:
    """A UNIX socket; each datagram is a record.

    A record that is longer than records may be comes with one byte too many, and is dropped with a word.
    """

    def __init__(self, path: Path, *, mode: int = 0o660) -> None:
        self.ended = False
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        if path.is_socket():  # of a sender that was killed: the spool's lock says that none runs
            path.unlink()
        self._socket.bind(str(path))
        path.chmod(mode)

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> list[bytes]:
        found: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(found) < _MOST:
                found.append(self._socket.recv(MAX_RECORD + 1))
        return found

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


class LineSource:
    """Lines of a pipe or file; the last one may lack its end."""

    def __init__(self, fd: int) -> None:
        self.ended = False
        self._fd = fd
        self._rest = b""

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[bytes]:
        """Lines; of one that is longer than a record may be, pieces that are too long as well."""
        piece = os.read(self._fd, _PIECE)
        if not piece:
            self.ended = True
            found, self._rest = [self._rest] if self._rest else [], b""
            return found
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > MAX_RECORD:
            lines.append(self._rest)
            self._rest = b""
        return lines

    def close(self) -> None:
        pass
