"""Records that are given to us: on a local socket that takes datagrams, or as lines on standard input.

A record is what a datagram or a line holds, as it is.  Neither can be asked for once more, so both are read
at once, and what there is no room for is dropped with a word.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import stat
import termios
from typing import TYPE_CHECKING, Final

from appliance.export.payload import MAX_RECORD
from appliance.export.sources.lines import Lines
from appliance.export.sources.source import Taken

if TYPE_CHECKING:
    from pathlib import Path

_MOST: Final = 256
_PIECE: Final = 256 * 1024


class DatagramSource:
    """A UNIX socket; each datagram is a record.

    A record that is longer than records may be comes with one byte too many, and is dropped with a word.
    """

    name = "socket"
    patient = False
    trouble = ""

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

    def read(self) -> list[Taken]:
        found: list[Taken] = []
        with contextlib.suppress(BlockingIOError):
            while len(found) < _MOST:
                found.append(Taken(self._socket.recv(MAX_RECORD + 1)))
        return found

    def rest(self) -> list[Taken]:
        """What was sent already; whoever sends from now on is told that nobody takes it (EPIPE)."""
        self._socket.shutdown(socket.SHUT_RD)
        found: list[Taken] = []
        while more := self.read():
            found += more
        return found

    def settled(self, position: str) -> None:
        """Nothing: whoever gave a record does not wait for it."""

    def close(self) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)


class LineSource:
    """Lines of a pipe or file; the last one may lack its end.

    Of a line that is longer than a record may be comes one byte too many, and it is dropped with a word.
    """

    name = "stdin"
    patient = False
    trouble = ""

    def __init__(self, fd: int) -> None:
        self.ended = False
        self._fd = fd
        self._lines = Lines(MAX_RECORD + 1)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Taken]:
        piece = os.read(self._fd, _PIECE)
        self.ended = not piece
        found = self._lines.feed(piece) if piece else self._lines.end()
        return [Taken(data) for data, _ in found]

    def rest(self) -> list[Taken]:
        """What a pipe holds now; what is written later is lost to its writer, who is told (EPIPE)."""
        if self.ended or not stat.S_ISFIFO(os.fstat(self._fd).st_mode):
            return []
        self.ended = True
        held = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, held)
        found = self._lines.feed(os.read(self._fd, held[0])) if held[0] else []
        return [Taken(data) for data, _ in [*found, *self._lines.end()]]

    def settled(self, position: str) -> None:
        """Nothing: a pipe does not go back."""

    def close(self) -> None:
        pass
