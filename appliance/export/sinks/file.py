"""A file of lines as a sink: appended, synced, and cut back to the cursor's mark when it is opened.

A mark is the file's inode and length.  A file that was rotated away is begun anew, and asks for a mark
first: so each record is in one of them, once.  Only what has lines behind the last mark when its writer is
killed, and is rotated away before the next one starts, is not cut back: those come again in the new one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from appliance.errors import ExportLogDamaged

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class FileSink:
    """Lines at the end of a file, which is made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._size = 0
        self._unmarked = False

    def _open(self) -> None:
        """The file under its name: another one after it was rotated away."""
        status = self._path.stat() if self._path.exists() else None
        if self._fd >= 0 and status is not None and os.fstat(self._fd).st_ino == status.st_ino:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o640)
        try:
            if self._fd >= 0:  # it has what was written before it was rotated away, and keeps it
                os.fdatasync(self._fd)
        except BaseException:
            os.close(fd)
            raise
        self.close()
        self._fd, self._size, self._unmarked = fd, os.fstat(fd).st_size, True
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def ready(self) -> bool:
        self._open()
        return self._unmarked

    def write(self, found: Sequence[bytes]) -> None:
        before, data = os.fstat(self._fd).st_size, b"".join(found)  # less than it was, if somebody cut it
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, before)
            raise
        self._size = before + len(data)

    def settle(self) -> str:
        os.fdatasync(self._fd)
        self._unmarked = False
        return f"{os.fstat(self._fd).st_ino}:{self._size}"

    def resume(self, mark: str) -> None:
        """Cut off what came after the mark.

        Raises:
            ExportLogDamaged: the file is shorter than it was: somebody cut it.
        """
        if self._fd < 0:
            self._open()
        inode, _, size = mark.partition(":")
        status = os.fstat(self._fd)
        if not mark or int(inode) != status.st_ino:
            return
        if status.st_size < int(size):
            raise ExportLogDamaged(
                f"{self._path} is shorter than it was",
                found=f"{status.st_size:,} bytes",
                wanted=f"{int(size):,}",
                hint="move it away; to have all of it again, remove the cursor beside it, too",
            )
        os.ftruncate(self._fd, int(size))
        self._size, self._unmarked = int(size), False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
