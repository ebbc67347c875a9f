"""A file of lines as a sink: appended, synced, and cut back to the cursor's mark when it is opened.

A mark is the file's inode and length.  A file that was rotated away is begun anew; then what was written
after the last mark comes once more, in the new one.
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

    def _open(self) -> None:
        """The file under its name: another one after it was rotated away."""
        status = self._path.stat() if self._path.exists() else None
        if self._fd >= 0 and status is not None and os.fstat(self._fd).st_ino == status.st_ino:
            return
        if self._fd >= 0:  # it has what was written before it was rotated away, and keeps it
            os.fdatasync(self._fd)
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def ready(self) -> None:
        """A file waits for nobody."""

    def write(self, found: Sequence[bytes]) -> None:
        self._open()
        before, data = self._size, b"".join(found)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, before)
            raise
        self._size += len(data)

    def settle(self) -> str:
        os.fdatasync(self._fd)
        return f"{os.fstat(self._fd).st_ino}:{self._size}"

    def resume(self, mark: str) -> None:
        """Cut off what came after the mark.

        Raises:
            ExportLogDamaged: the file is shorter than it was: somebody cut it.
        """
        self._open()
        inode, _, size = mark.partition(":")
        if not mark or int(inode) != os.fstat(self._fd).st_ino:
            return
        if self._size < int(size):
            raise ExportLogDamaged(
                f"{self._path} is shorter than it was",
                found=f"{self._size:,} bytes",
                wanted=f"{int(size):,}",
                hint="move it away; to have all of it again, remove the cursor beside it, too",
            )
        os.ftruncate(self._fd, int(size))
        self._size = int(size)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
