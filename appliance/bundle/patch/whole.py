"""Files of a bundle read and made whole, whatever their slices; positions are those of the whole file."""

from __future__ import annotations

import os
from bisect import bisect_right
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.durable import create_file
from appliance.bundle.plain_files import unreadable
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self


#: Parts of one file that are open at the same time.
MAX_OPEN: Final = 8


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
        self._open: dict[int, tuple[int, ExitStack]] = {}  # the part used last is the last
        self._versions: dict[int, tuple[int, int, int]] = {}

    def __enter__(self) -> Self:
        try:
            for number in range(len(self._parts)):
                self._fd(number)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        while self._open:
            self._open.popitem()[1][1].close()

    def _fd(self, number: int) -> int:
        """A part, open; of hundreds of slices only some are at once, since a process may have 1,024 files.

        Raises:
            DigestMismatch: it has another size than was signed.
        """
        if number in self._open:
            self._open[number] = self._open.pop(number)
            return self._open[number][0]
        if len(self._open) == MAX_OPEN:
            self._open.pop(next(iter(self._open)))[1].close()
        path, size = self._parts[number]
        with ExitStack() as stack:
            fd = stack.enter_context(self._opens.open(path))
            if (found := os.fstat(fd).st_size) != size:
                raise DigestMismatch(
                    f"{path} has another size than was signed",
                    found=f"{found:,} bytes",
                    wanted=f"{size:,} bytes",
                    hint="obtain the bundle again",
                )
            self._versions.setdefault(number, _version(fd))
            self._open[number] = fd, stack.pop_all()
        return fd

    def require_unchanged(self) -> None:
        """Refuse what was written to since it was opened here: it may have been read as two files.

        Raises:
            DigestMismatch: it was.
        """
        for number, version in self._versions.items():
            if _version(self._fd(number)) != version:
                raise DigestMismatch(
                    f"{self.path} was changed while it was read",
                    hint="make the medium read-only and start again",
                )

    def places(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where these bytes lie: descriptors, positions in them, and lengths.

        A descriptor is to be used before the next one is asked for.
        """
        number = bisect_right(self._ends, offset)
        while length:
            start = self._ends[number - 1] if number else 0
            count = min(length, self._ends[number] - offset)
            yield self._fd(number), offset - start, count
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
                    raise self._ended()
                found.append(data)
                done += len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def read_into(self, offset: int, data: memoryview) -> None:
        """Fill ``data`` with the bytes from ``offset`` on.

        Raises:
            DigestMismatch: as of ``read``.
        """
        for fd, start, count in self.places(offset, len(data)):
            done = 0
            while done < count:
                try:
                    size = os.preadv(fd, [data[done:count]], start + done)
                except OSError as fault:
                    raise unreadable(self.path, fault) from fault
                if not size:
                    raise self._ended()
                done += size
            data = data[count:]

    def _ended(self) -> DigestMismatch:
        return DigestMismatch(
            f"{self.path} became shorter while it was read",
            hint="make the medium read-only and start again",
        )


def _version(fd: int) -> tuple[int, int, int]:
    """What changes when a file is written to, or another replaces it; no program puts all of it back."""
    status = os.fstat(fd)
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


class NewParts:
    """The files that one whole file lies in, new; a ``Sink`` of ``appliance.bundle.patch.applying``.

    Args:
        folder: of the bundle.
        parts: path and size in bytes of each part, in order.
    """

    def __init__(self, folder: Path, parts: Sequence[tuple[str, int]]) -> None:
        self.paths = [path for path, _ in parts]
        self._places = [folder / path for path in self.paths]
        self._ends = [*accumulate(size for _, size in parts)]
        self._open: tuple[int, int] | None = None
        for place in self._places:
            place.parent.mkdir(parents=True, exist_ok=True)
            os.close(create_file(place))

    def fd(self, number: int) -> int:
        """A part, open for reading and writing until another one is asked for."""
        if self._open is None or self._open[0] != number:
            self.close()
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            self._open = number, os.open(self._places[number], flags)
        return self._open[1]

    def place(self, offset: int, length: int) -> Iterator[tuple[int, int, int]]:
        """Where these bytes belong: descriptors, positions in them, and lengths; one at a time."""
        number = bisect_right(self._ends, offset)
        while length:
            start = self._ends[number - 1] if number else 0
            count = min(length, self._ends[number] - offset)
            yield self.fd(number), offset - start, count
            offset, length, number = offset + count, length - count, number + 1

    def close(self) -> None:
        """Close what is open."""
        if self._open is not None:
            os.close(self._open[1])
        self._open = None
