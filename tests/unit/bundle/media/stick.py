"""A stick with a flaw, as a FUSE file system over a folder: ``python stick.py BACKING MOUNT FLAW``.

``short-names``  cuts names to 8.3 characters, as FAT does where long names are off.
``fake-size``    forgets what is written beyond 6 MiB of a file, and says nothing: a stick that claims
                 to be larger than it is.
``no-plus``      refuses ``+`` in a name, as FAT does in short ones.
"""

# FUSE gives paths as text, and they are passed on as text.
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH118, PTH208

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import mfusepy

REAL = 6 << 20


class Stick(mfusepy.Operations):
    """Passes everything on to the backing folder, but for its flaw."""

    def __init__(self, backing: str, flaw: str) -> None:
        self._backing = backing
        self._flaw = flaw

    def _path(self, path: str) -> str:
        parts = path.strip("/").split("/")
        if self._flaw == "short-names":
            parts = [short_name(part) for part in parts]
        if self._flaw == "no-plus" and "+" in path:
            raise mfusepy.FuseOSError(errno.EINVAL)
        return os.path.join(self._backing, *parts)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        try:
            status = os.lstat(self._path(path))
        except FileNotFoundError:
            raise mfusepy.FuseOSError(errno.ENOENT) from None
        names = ("st_mode", "st_size", "st_mtime", "st_ctime", "st_atime", "st_nlink", "st_uid", "st_gid")
        return {name: getattr(status, name) for name in names}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._path(path))]

    def mkdir(self, path: str, mode: int) -> int:
        os.mkdir(self._path(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._path(path))
        return 0

    def unlink(self, path: str) -> int:
        os.unlink(self._path(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        os.rename(self._path(old), self._path(new))
        return 0

    def open(self, path: str, flags: int) -> int:
        return os.open(self._path(path), flags & ~(os.O_DIRECT | os.O_CREAT | os.O_EXCL))

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return os.open(self._path(path), os.O_RDWR | os.O_CREAT, mode)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        if self._flaw == "fake-size" and offset >= REAL:
            return os.pwrite(fh, bytes(len(data)), offset)
        return os.pwrite(fh, data, offset)

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return 0

    def chmod(self, path: str, mode: int) -> int:
        raise mfusepy.FuseOSError(errno.EPERM)

    def statfs(self, path: str) -> dict[str, int]:
        status = os.statvfs(self._backing)
        return {
            "f_bsize": 4096,
            "f_frsize": 4096,
            "f_blocks": 1 << 20,
            "f_bfree": 1 << 20,
            "f_bavail": 1 << 20,
        } | {"f_namemax": status.f_namemax}


def short_name(name: str) -> str:
    """Eight characters, a dot, three: as far as a name has them."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[:8].replace('.', '_')}.{suffix[:3]}" if dot else name[:8]


if __name__ == "__main__":
    mfusepy.FUSE(
        Stick(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, nothreads=True, fsname="stick"
    )
