"""Writing past the page cache: what is written goes to the medium at once, by ``O_DIRECT``.

A large file that is read back past the cache anyway gains nothing from lying there, and filling the cache
takes as much time of the processor as hashing.  Where a file system has no ``O_DIRECT``, or refuses it when
it comes to writing, the cache is used as ever, and the kernel is told to begin writing back.
"""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.durable import begin_writing_back

if TYPE_CHECKING:
    from typing import Self


class BlockWriter:
    """Writes blocks of one open file; to be used in a ``with`` statement.

    Args:
        fd: the file, open for writing.  It is brought to the medium by whoever opened it.
        size: of the file, in bytes; one of less than a block never goes past the cache.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._direct = self._open_direct() if size >= BLOCK_SIZE else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._give_up_direct()

    @property
    def is_direct(self) -> bool:
        """Whether blocks go past the cache."""
        return self._direct is not None

    def write(self, block: memoryview, offset: int) -> None:
        """Write a block, which begins at a page in memory, at a multiple of the page size.

        Raises:
            OSError: what the system said of the medium.
        """
        done = self._write_direct(block, offset)
        rest = len(block) - done
        _write_all(self._fd, block[done:], offset + done)
        if rest:
            begin_writing_back(self._fd, offset + done, rest)

    def leave(self, block: memoryview, offset: int) -> None:
        """Write a block into the cache, and leave it to the kernel when it goes to the medium.

        Raises:
            OSError: the medium is full, or fails.
        """
        _write_all(self._fd, block, offset)

    def _write_direct(self, block: memoryview, offset: int) -> int:
        """How many bytes, from its beginning, went past the cache: of whole pages, if any."""
        if self._direct is None or len(block) % mmap.PAGESIZE:
            return 0
        try:
            return os.pwrite(self._direct, block, offset)
        except OSError as fault:
            if fault.errno != errno.EINVAL:
                raise
            self._give_up_direct()
            return 0

    def _open_direct(self) -> int | None:
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:
            return None  # whatever the reason: without it, it only takes longer

    def _give_up_direct(self) -> None:
        if self._direct is not None:
            os.close(self._direct)
            self._direct = None


def _write_all(fd: int, block: memoryview, offset: int) -> None:
    done = 0
    while done < len(block):
        count = os.pwrite(fd, block[done:], offset + done)
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += count
