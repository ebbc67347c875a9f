"""Reading past the page cache, so that what is compared comes from the medium and not from memory.

``O_DIRECT`` where the file system has it; else the cached pages are dropped first, which works because
they were brought to the medium before.  Some blocks are read ahead while one is worked on.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.durable import sync_file_system
from appliance.bundle.media.buffers import block_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self


#: Blocks that are read before they are asked for: what hides a slow write or hash from the disk.
_AHEAD: Final = 3


class BlockReader:
    """Reads blocks of files, some ahead; for one thread, in a ``with`` statement.

    A block that was given is valid until the next one is asked for.
    """

    def __init__(self) -> None:
        self._buffers = block_buffers(_AHEAD + 1)
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="beside")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ahead.shutdown(cancel_futures=True)
        self._beside.shutdown(cancel_futures=True)

    def blocks(self, fd: int, numbers: Iterable[int]) -> Iterator[tuple[int, memoryview]]:
        """These blocks of a file, in turn; the last one of a file may be short.

        Raises:
            OSError: the file cannot be read.
        """
        size = os.fstat(fd).st_size
        wanted = [(number, max(0, min(BLOCK_SIZE, size - number * BLOCK_SIZE))) for number in numbers]
        if len(wanted) == 1:  # most files have one block: no need to wake another thread
            number, length = wanted[0]
            yield number, self._read(fd, number, length, 0)
            return
        ahead: deque[tuple[int, Future[memoryview]]] = deque()
        try:
            for turn, (number, length) in enumerate(wanted):
                buffer = turn % len(self._buffers)
                ahead.append((number, self._ahead.submit(self._read, fd, number, length, buffer)))
                if len(ahead) > _AHEAD:
                    done, block = ahead.popleft()
                    yield done, block.result()
            while ahead:
                done, block = ahead.popleft()
                yield done, block.result()
        finally:  # given up: nobody may read from a descriptor that is closed now
            for _, future in ahead:
                future.cancel()
            wait([future for _, future in ahead])

    def meanwhile(self, work: Callable[[memoryview], object], block: memoryview) -> Future[object]:
        """Do something with a block while this thread does something else with it."""
        return self._beside.submit(work, block)

    def _read(self, fd: int, number: int, length: int, buffer: int) -> memoryview:
        # Whole pages, as O_DIRECT wants, and none beyond the end: some drivers stumble there.
        pages = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        view = self._buffers[buffer][:pages]
        done = 0
        while done < length:
            count = _preadv(fd, view[done:], number * BLOCK_SIZE + done)
            done += count
            if not count or done % mmap.PAGESIZE:
                break  # the end of the file
        return view[: min(done, length)]


@contextmanager
def past_cache(fd: int) -> Iterator[int]:
    """A descriptor of the same file that leaves the page cache as it is; ``fd`` where there is none.

    Filling the cache with a file of gigabytes takes the processor longer than reading it, and pushes out
    what others need.
    """
    try:
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        yield fd  # whatever the reason: without it, it only takes longer
        return
    try:
        yield direct
    finally:
        os.close(direct)


@contextmanager
def uncached(fd: int) -> Iterator[int]:
    """A descriptor of the same file whose reads come from the medium, not from memory."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    with past_cache(fd) as direct:
        yield direct


@contextmanager
def open_uncached(path: Path) -> Iterator[int]:
    """A descriptor of the file at a path, no link, as ``uncached`` gives it."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with uncached(fd) as direct:
            yield direct
    finally:
        os.close(fd)


def bring_to_medium(folder: Path) -> None:
    """Wait until what was just written to a medium is there: only then can its pages be dropped.

    Raises:
        OSError: something could not be written.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    except OSError as fault:
        if fault.errno != errno.EROFS:  # what is mounted for reading only has nothing to be brought there
            raise
    finally:
        os.close(fd)


def _preadv(fd: int, view: memoryview, offset: int) -> int:
    """Read; by way of the page cache if the file system took ``O_DIRECT`` and now refuses to read so."""
    try:
        return os.preadv(fd, [view], offset)
    except OSError as fault:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        if fault.errno != errno.EINVAL or not flags & os.O_DIRECT:
            raise
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        return os.preadv(fd, [view], offset)
