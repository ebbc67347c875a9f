"""Reading past the page cache, so that what is compared comes from the medium and not from memory.

``O_DIRECT`` where the file system has it; else the cached pages are dropped first, which works because
they were brought to the medium before.  A block is read ahead while the last one is worked on.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.bundle.blocks import BLOCK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self


class BlockReader:
    """Reads blocks of files, one ahead; for one thread, in a ``with`` statement.

    A block that was given is valid until the next one is asked for.
    """

    def __init__(self) -> None:
        # Anonymous maps begin at a page, as O_DIRECT wants.
        self._buffers = [mmap.mmap(-1, BLOCK_SIZE) for _ in range(2)]
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.shutdown(cancel_futures=True)

    def blocks(self, fd: int, numbers: Iterable[int]) -> Iterator[tuple[int, memoryview]]:
        """These blocks of a file, in turn; short at its end.

        Raises:
            OSError: the file cannot be read.
        """
        wanted = list(numbers)
        if len(wanted) == 1:  # most files have one block: no need to wake another thread
            yield wanted[0], self._read(fd, wanted[0], 0)
            return
        ahead: deque[tuple[int, Future[memoryview]]] = deque()
        for turn, number in enumerate(wanted):
            ahead.append((number, self._ahead.submit(self._read, fd, number, turn % 2)))
            if turn:
                done, block = ahead.popleft()
                yield done, block.result()
        for done, block in ahead:
            yield done, block.result()

    def _read(self, fd: int, number: int, buffer: int) -> memoryview:
        view = memoryview(self._buffers[buffer])
        done = 0
        while done < BLOCK_SIZE:
            count = os.preadv(fd, [view[done:]], number * BLOCK_SIZE + done)
            done += count
            if not count or done % mmap.PAGESIZE:
                break  # the end of the file
        return view[:done]


@contextmanager
def open_uncached(path: Path) -> Iterator[int]:
    """A descriptor whose reads come from the medium, not from memory."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with uncached(fd) as direct:
            yield direct
    finally:
        os.close(fd)


@contextmanager
def uncached(fd: int) -> Iterator[int]:
    """A descriptor of the same file whose reads come from the medium, if it was brought there before."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    direct = _open_direct(fd)
    try:
        yield fd if direct is None else direct
    finally:
        if direct is not None:
            os.close(direct)


def _open_direct(file: int) -> int | None:
    """The same file past the page cache; None where its file system cannot."""
    try:
        fd = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError as fault:
        if fault.errno in {errno.EINVAL, errno.ENOENT}:
            return None
        raise
    try:
        # Some accept the flag and refuse the reads.
        with mmap.mmap(-1, mmap.PAGESIZE) as page:
            os.preadv(fd, [page], 0)
    except OSError as fault:
        os.close(fd)
        if fault.errno == errno.EINVAL:
            return None
        raise
    return fd
