"""Where bytes of a drive lie: its blocks, its shadow MBR, its data store."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Protocol

from appliance.errors import SpaceExhausted

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = 4096
_KEEP_SIZE_AND_PUNCH = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE; linux/falloc.h


class Space(Protocol):
    """A number of bytes, zeros at first."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def clear(self, offset: int, length: int) -> None: ...

    def sync(self) -> None: ...


class MemorySpace:
    """Bytes in memory, by pages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pages: dict[int, bytearray] = {}

    def read(self, offset: int, length: int) -> bytes:
        first, last = offset // _PAGE, -(-(offset + length) // _PAGE)
        whole = b"".join(bytes(self._pages.get(page, bytes(_PAGE))) for page in range(first, last))
        start = offset - first * _PAGE
        return whole[start : start + length]

    def write(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            page, within = divmod(offset + at, _PAGE)
            count = min(_PAGE - within, len(data) - at)
            self._pages.setdefault(page, bytearray(_PAGE))[within : within + count] = data[at : at + count]
            at += count

    def clear(self, offset: int, length: int) -> None:
        while length:
            page, within = divmod(offset, _PAGE)
            count = min(_PAGE - within, length)
            if count == _PAGE:
                self._pages.pop(page, None)
            elif page in self._pages:
                self._pages[page][within : within + count] = bytes(count)
            offset += count
            length -= count

    def sync(self) -> None:
        """Nothing outlasts memory."""


class FileSpace:
    """A part of a sparse file.

    Args:
        path: the file; made or grown as needed.
        start: where the part begins in it.
        size: bytes of the part.
    """

    def __init__(self, path: Path, start: int, size: int) -> None:
        self.size = size
        self._start = start
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if os.fstat(self._descriptor).st_size < start + size:
            os.truncate(self._descriptor, start + size)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, self._start + offset)

    def write(self, offset: int, data: bytes) -> None:
        written = 0
        while written < len(data):
            try:
                written += os.pwrite(self._descriptor, data[written:], self._start + offset + written)
            except OSError as error:
                raise SpaceExhausted("a drive's image cannot be written", found=str(error)) from error

    def clear(self, offset: int, length: int) -> None:
        place = ctypes.c_longlong(self._start + offset)
        call = ctypes.CDLL(None, use_errno=True).fallocate64
        if call(self._descriptor, _KEEP_SIZE_AND_PUNCH, place, ctypes.c_longlong(length)):
            while length:  # a file system without holes
                count = min(length, 1 << 20)
                self.write(offset, bytes(count))
                offset += count
                length -= count

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
