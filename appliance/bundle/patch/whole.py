"""Files of a bundle read whole, wherever their slices lie; positions are those of the whole file."""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from appliance.bundle.plain_files import unreadable
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Self


class Opens(Protocol):
    """What opens files by their paths: a bundle's tree."""

    def open(self, path: str) -> AbstractContextManager[int]:
        """A descriptor for reading."""


class FolderFiles:
    """Opens files by their paths on this machine."""

    @contextmanager
    def open(self, path: str) -> Iterator[int]:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as fault:
            raise unreadable(path, fault) from fault
        try:
            yield fd
        finally:
            os.close(fd)


class WholeFile:
    """One file, open; to be used in a ``with`` statement.

    Args:
        opens: where its parts are opened.
        path: of the whole file, for messages.
        parts: path and size in bytes of each part, in order.
    """

    def __init__(self, opens: Opens, path: str, parts: Sequence[tuple[str, int]]) -> None:
        self.path = path
        self._opens, self._parts = opens, parts
        self._ends = [*accumulate(size for _, size in parts)]
        self.size = self._ends[-1] if parts else 0
        self._fds: list[int] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for path, size in self._parts:
                fd = stack.enter_context(self._opens.open(path))
                if (found := os.fstat(fd).st_size) != size:
                    raise DigestMismatch(
                        f"{path} has another size than was signed",
                        found=f"{found:,} bytes",
                        wanted=f"{size:,} bytes",
                        hint="obtain the bundle again",
                    )
                self._fds.append(fd)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._fds.clear()

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where these bytes lie: descriptors, positions in them, and lengths."""
        number = bisect_right(self._ends, offset)
        while length:
            start = self._ends[number - 1] if number else 0
            count = min(length, self._ends[number] - offset)
            yield self._fds[number], offset - start, count
            offset, length, number = offset + count, length - count, number + 1

    def read(self, offset: int, length: int) -> bytes:
        """These bytes.

        Raises:
            DigestMismatch: the file ended early, or cannot be read.
        """
        found = []
        for fd, start, count in self.places(offset, length):
            done = 0
            while done < count:
                try:
                    data = os.pread(fd, count - done, start + done)
                except OSError as fault:
                    raise unreadable(self.path, fault) from fault
                if not data:
                    raise DigestMismatch(
                        f"{self.path} became shorter while it was read",
                        hint="make the medium read-only and start again",
                    )
                found.append(data)
                done += len(data)
        return found[0] if len(found) == 1 else b"".join(found)
