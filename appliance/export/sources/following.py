"""A file that grows and is rotated away, followed by inode: an audit log.

A position is inode, offset and a print of the file's beginning, so that an inode that was given to
another file is noticed.  A rotated file keeps its inode and gets a number (``audit.log.1``, then ``.2``);
it is read to its end there, and then the next younger one.  Where a file is gone and others may be with
it, or is shorter than it was or begins otherwise, a tombstone says so: how many lines that cost, nobody
knows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from appliance.export.sources.source import LOST, MAX_TAKEN, TOO_LONG, Taken, tombstone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PIECE: Final = 256 << 10
_PRINTED: Final = 256
#: Seconds without a look at our file, after which it may have had followers that came and went.
_UNSEEN: Final = 5.0
_POSITION: Final = re.compile(r"([0-9]{1,20}):([0-9]{1,20}):([0-9a-f]{16})")


class _File(NamedTuple):
    path: Path
    inode: int


class FileSource:
    """The whole lines of a file and of those that it was called before.

    Args:
        name: the stream.
        path: of the file that is written to.
        position: up to where its lines are in the spool; empty: from the oldest file on.
        parse: makes a record of a line.
        now: ms since 1970.
        steady: seconds of a clock that never goes back.
    """

    patient = True

    def __init__(
        self,
        name: str,
        path: Path,
        position: str,
        parse: Callable[[bytes], bytes],
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name, self.ended, self.trouble = name, False, ""
        self._path, self._parse, self._now, self._steady = path, parse, now, steady
        self._fd, self._inode, self._offset = -1, -1, 0
        self._print, self._printed = "", -1
        self._whole = False  # what has no end yet will get none
        self._position = position
        self._older: frozenset[int] = frozenset()  # inodes of files that were before ours
        self._seen = steady()  # when our file was last among the others

    def fileno(self) -> int:
        return -1

    def read(self) -> list[Taken]:
        """Lines that are there as a whole."""
        try:
            if self._fd < 0:
                return self._first()
            found = self._cut() or self._lines() or self._next()
        except OSError as fault:
            self.trouble = f"{self._path}: {fault.strerror}"
            return []
        self.trouble = ""
        return found

    def _first(self) -> list[Taken]:
        """Open the file of the position, or the oldest one if it is gone."""
        wanted = _POSITION.fullmatch(self._position)
        files = self._files()
        if not files:
            if not self._path.exists():  # or it was renamed just now
                self.trouble = f"{self._path}: there is no such file"
            return []
        self.trouble = ""
        for place, each in enumerate(files if wanted else []):
            fd = self._opened(each.path)
            if wanted and self._is(fd, int(wanted[1]), int(wanted[2]), wanted[3]):
                self._take(fd, int(wanted[2]), files[:place])
                return []
            os.close(fd)
        self._take(self._opened(files[0].path), 0, [])
        return [self._lost("gone")] if wanted else []

    def _cut(self) -> list[Taken]:
        """A word, and the file from its beginning, if it is not what it was: cut, and written anew."""
        short = os.fstat(self._fd).st_size < self._offset
        if not short and (self._printed < 0 or _print(self._fd, self._printed) == self._print):
            return []
        self._take(self._fd, 0, None)
        return [self._lost("shorter than it was" if short else "written anew")]

    def _is(self, fd: int, inode: int, offset: int, printed: str) -> bool:
        status = os.fstat(fd)
        return status.st_ino == inode and status.st_size >= offset and _print(fd, offset) == printed

    def _files(self) -> list[_File]:
        """The file and those it was called before, the oldest first; none while they are being renamed."""
        before = self._listed()
        return before if before == self._listed() else []

    def _listed(self) -> list[_File]:
        numbered = re.compile(re.escape(self._path.name) + r"\.([0-9]{1,6})")
        with contextlib.suppress(FileNotFoundError):
            found = [
                (int(each[1]), self._path.with_name(each[0]))
                for each in map(numbered.fullmatch, os.listdir(self._path.parent))  # noqa: PTH208
                if each
            ]
            paths = [path for _, path in sorted(found, reverse=True)]
            paths += [self._path] if self._path.exists() else []
            return [_File(path, path.lstat().st_ino) for path in paths]
        return []

    @staticmethod
    def _opened(path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def _take(self, fd: int, offset: int, before: list[_File] | None) -> None:
        """Go on in this file; ``before``: those older than it, None if they are the same as ever."""
        if self._fd not in (-1, fd):
            os.close(self._fd)
        self._fd, self._offset, self._whole = fd, offset, False
        self._inode, self._printed, self._seen = os.fstat(fd).st_ino, -1, self._steady()
        if before is not None:
            self._older = frozenset(each.inode for each in before)
        self._here()

    def _lines(self) -> list[Taken]:
        piece = os.pread(self._fd, _PIECE, self._offset)
        end = piece.rfind(b"\n") + 1
        if not end and len(piece) == _PIECE:
            return self._long_line()
        if not end and self._whole:
            end = len(piece)
        if not end:
            return []
        found, last = [], self._offset + end
        for line in piece[:end].removesuffix(b"\n").split(b"\n"):
            self._offset = min(self._offset + len(line) + 1, last)
            found.append(Taken(self._parse(line), self._here()))
        return found

    def _long_line(self) -> list[Taken]:
        """A line longer than a piece, once its end is there; one that is too long is not taken."""
        size, end = 0, -1
        while end < 0 and (piece := os.pread(self._fd, _PIECE, self._offset + size)):
            end = piece.find(b"\n")
            size += len(piece) if end < 0 else end
        if end < 0 and not self._whole:
            return []
        line = os.pread(self._fd, size, self._offset) if size <= MAX_TAKEN else None
        self._offset += size + (end >= 0)
        if line is not None:
            return [Taken(self._parse(line), self._here())]
        words = tombstone(self.name, TOO_LONG, self._now(), bytes=size)
        return [Taken(words, self._here(), stated=True)]

    def _here(self) -> str:
        if self._printed != min(self._offset, _PRINTED):
            self._printed = min(self._offset, _PRINTED)
            self._print = _print(self._fd, self._offset)
        return f"{self._inode}:{self._offset}:{self._print}"

    def _next(self) -> list[Taken]:
        """At the end of a file that was rotated away, after a last look: the next younger one."""
        files = self._files()
        inodes = [each.inode for each in files]
        if self._inode in inodes:
            self._seen = self._steady()
        if not files or files[-1].path != self._path or inodes[-1] == self._inode:
            return []
        if not self._whole:  # what was written between reading and looking comes first
            self._whole = True
            if found := self._lines():
                return found
        gone = self._inode not in inodes
        place = self._after_ours(files) if gone else inodes.index(self._inode) + 1
        # One that was removed or packed once we had read it to its end costs nothing, if we looked often.
        missing = gone and (place < len(files) - 1 or self._steady() - self._seen > _UNSEEN)
        fd = self._opened(files[place].path)
        if os.fstat(fd).st_ino != files[place].inode:  # renamed in between: look again
            os.close(fd)
            return []
        self._take(fd, 0, files[:place])
        return [self._lost("gone")] if missing else self._lines()

    def _after_ours(self, files: list[_File]) -> int:
        """The oldest file that came after ours, which is gone; the newest one always did.

        What was not there before ours came after it, whatever the clock says; so did what was written to
        later, since the inode of an older file that was removed may be another one's by now.
        """
        ours = os.fstat(self._fd).st_mtime_ns
        for place, each in enumerate(files[:-1]):
            if each.inode not in self._older or each.path.lstat().st_mtime_ns > ours:
                return place
        return len(files) - 1

    def _lost(self, what: str) -> Taken:
        words = tombstone(self.name, LOST, self._now(), count=None, file=what)
        return Taken(words, stated=True)

    def rest(self) -> list[Taken]:
        """Nothing: the file keeps it."""
        return []

    def settled(self, position: str) -> None:
        """Nothing: whoever rotates the file away does."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _print(fd: int, offset: int) -> str:
    """Of what comes before the offset, at most 256 bytes of it, from the beginning."""
    return hashlib.sha256(os.pread(fd, min(offset, _PRINTED), 0)).hexdigest()[:16]
