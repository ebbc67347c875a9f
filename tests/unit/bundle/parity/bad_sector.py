"""A medium with one bad sector, over FUSE, read-only: ``python bad_sector.py BACKING MOUNT NAME``.

Whoever reads across the bytes 40,960 to 45,056 of a file called NAME gets EIO, as from a disk.
"""

# FUSE gives paths as text, and they are passed on as text.
# ruff: noqa: PTH118, PTH208

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import mfusepy

START, END = 40_960, 45_056


class BadSector(mfusepy.Operations):
    """Passes everything on to the backing folder, but for the bad sector."""

    def __init__(self, backing: str, name: str) -> None:
        self._backing, self._name = backing, name

    def _path(self, path: str) -> str:
        return os.path.join(self._backing, path.strip("/"))

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        try:
            status = os.lstat(self._path(path))
        except FileNotFoundError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None
        names = ("st_mode", "st_size", "st_mtime", "st_ctime", "st_atime", "st_nlink", "st_uid", "st_gid")
        return {name: getattr(status, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._path(path))]

    def open(self, path: str, flags: int) -> int:
        return os.open(self._path(path), os.O_RDONLY)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        if path.endswith(self._name) and offset < END and offset + size > START:
            raise mfusepy.FuseOSError(errno.EIO)
        return os.pread(fh, size, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


if __name__ == "__main__":
    mfusepy.FUSE(BadSector(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, ro=True, nothreads=True)
