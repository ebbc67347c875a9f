"""Copying thousands of short files in forked processes (``appliance.bundle.forked``).

What is to be copied, a process reads in the lock it was forked with, some files at a time; it answers
with nothing, or with what was wrong.  The digest of a file of one block is the lock's own, once the bytes
were found to have it.

A file system that can share blocks is asked to (``ioctl_ficlone(2)``), for each file: only it knows for
which of them it can.  Else the bytes are read, hashed and written from one buffer: for a short file that
takes less time than to let the kernel copy and read the copy, as ``appliance.bundle.copying`` does.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.copying import CANNOT, damaged, open_source, read_block, write_block
from appliance.bundle.durable import create_file, settle_file
from appliance.bundle.forked import Forked, answer
from appliance.bundle.manifest import ListedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from appliance.bundle.locked_files import LockedFiles
    from appliance.progress import Progress

_FICLONE: Final = 0x40049409  # linux/fs.h
#: The same, and what is said by file systems that know of no such request.
_CANNOT_SHARE: Final = CANNOT | {errno.ENOTTY}
#: Files that a process is given at once: some hundredths of a second.
_BATCH: Final = 256


class CopyingProcesses:
    """Processes that copy the files of at most one block; to be used in a ``with`` statement.

    Args:
        folder: where the bundle is written; the folders of all files exist.
        components: what goes into it.
        place: the path of a file of the store, by its SHA-256 (hex).
        count: how many processes.
    """

    def __init__(
        self, folder: Path, components: Sequence[LockedFiles], place: Callable[[str], str], count: int
    ) -> None:
        self._batches = [
            _Batch(files, first) for files in components for first in range(0, len(files), _BATCH)
        ]
        self._forked = Forked(count, partial(_begin, str(folder), self._batches, place))
        self._futures: list[Future[_Copied]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self) -> list[Future[_Copied]]:
        """Have everything copied; what is returned is only to be waited for."""
        self._futures += map(self._forked.submit, range(len(self._batches)))
        return self._futures

    def tell(self, progress: Progress) -> None:
        """Let another thread tell of every file when its batch is done, and now of what is done already."""

        def advance(future: Future[_Copied]) -> None:
            if not future.cancelled() and not future.exception() and (copied := future.result()).files:
                progress.item(copied.last, copied.files)
                progress.advance(copied.size)

        for future in self._futures:
            future.add_done_callback(advance)

    def close(self) -> None:
        """End the processes; what is not copied yet is given up."""
        self._forked.close()

    def check(self) -> None:
        """Whether everything was copied; once they have ended.

        Raises:
            DigestMismatch, FileMissing, SettingsInvalid: as of ``appliance.bundle.copying.Copier.copy``.
            Interrupted: one of the processes was ended by somebody else.
            OSError: the folder cannot be written to.
        """
        for future in self._futures:
            if not future.cancelled():
                answer(future)


class _Copied(NamedTuple):
    """So many files, of so many bytes together, and the path of the last."""

    files: int
    size: int
    last: str


class _Batch(NamedTuple):
    """Some files of a component, from one on."""

    files: LockedFiles
    first: int

    def short(self) -> Iterator[tuple[str, int, str]]:
        """Path, size in bytes and SHA-256 (hex) of those that are not left to threads."""
        last = min(self.first + _BATCH, len(self.files))
        return (each for each in self.files.brief(self.first, last) if each[1] <= BLOCK_SIZE)


def _begin(
    folder: str, batches: Sequence[_Batch], place: Callable[[str], str], stopped: Callable[[], bool]
) -> Callable[[int], _Copied]:
    buffer = memoryview(bytearray(BLOCK_SIZE))

    def copy_some(number: int) -> _Copied:
        count, total, path = 0, 0, ""
        for path, size, sha256 in batches[number].short():
            if stopped():
                break
            _copy(place(sha256), f"{folder}/{path}", ListedFile(sha256, size), buffer[:size])
            count += 1
            total += size
        return _Copied(count, total, path)

    return copy_some


def _copy(source: str, target: str, wanted: ListedFile, block: memoryview) -> None:
    """Copy one file; ``block`` holds its bytes afterwards.

    Raises:
        DigestMismatch, FileMissing, SettingsInvalid: as of ``appliance.bundle.copying.Copier.copy``.
        OSError: it cannot be written.
    """
    origin = open_source(source, wanted)
    try:
        fd = create_file(target)
        try:
            if _share(origin, fd):
                read_block(fd, block, 0)
            else:
                read_block(origin, block, 0)
                write_block(fd, block, 0)
            settle_file(fd)
        finally:
            os.close(fd)
    finally:
        os.close(origin)
    if (found := hashlib.sha256(block).hexdigest()) != wanted.sha256:
        raise damaged(source, f"sha256 {found}", f"sha256 {wanted.sha256}")


def _share(origin: int, target: int) -> bool:
    """Let the new file have the blocks of the other, as its own; False where that cannot be."""
    try:
        fcntl.ioctl(target, _FICLONE, origin)
    except OSError as fault:
        if fault.errno not in _CANNOT_SHARE:
            raise
        return False
    return True
