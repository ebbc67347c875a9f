"""Copying one artefact from the store into a bundle, hashed and cut on the way.

Each block is copied by the kernel (``copy_file_range``, which shares the blocks on file systems that
can) and then read back from the *copy*: the digests are of what lies in the bundle.  Where the kernel
cannot copy, the block is read, hashed and written from one buffer.  Never a hard link: whoever can
write to the bundle must not be able to change the store.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.durable import create_file, finish_file
from appliance.bundle.manifest import ListedFile
from appliance.bundle.paths import slice_path
from appliance.errors import DigestMismatch, FileMissing, SettingsInvalid

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.progress import Progress

#: What kernels and file systems say when they will not copy between these two files.
_CANNOT: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})


class Stopped(Exception):
    """Another copy failed; this one was ended early."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Slices (none: the file is whole) and the joined digests of all blocks."""

    slices: tuple[ListedFile, ...]
    blocks: bytes


def copy_artefact(
    source: Path,
    target: Path,
    wanted: ListedFile,
    *,
    slice_size: int,
    progress: Progress,
    stop: threading.Event,
) -> Copied:
    """Copy ``source`` to the new file ``target``, or to its slices if it is longer than ``slice_size``.

    Args:
        source: a file of the store.
        target: where the whole file would lie; its folder exists.
        wanted: digest and size in bytes that the bytes must have.
        slice_size: bytes; a multiple of the block size.
        progress: told of every block.
        stop: set when the copy shall end early.

    Raises:
        DigestMismatch: the bytes are not those that were locked.
        FileMissing: the store lacks the file.
        SettingsInvalid: the store cannot be read.
        Stopped: ``stop`` was set.
    """
    whole = hashlib.sha256()
    blocks: list[bytes] = []
    slices: list[ListedFile] = []
    sliced = wanted.size > slice_size
    buffer = memoryview(bytearray(BLOCK_SIZE))
    with _open(source, wanted) as origin:
        for start in range(0, max(wanted.size, 1), slice_size):
            size = min(slice_size, wanted.size - start)
            path = target.with_name(slice_path(target.name, len(slices))) if sliced else target
            part = hashlib.sha256() if sliced else whole
            fd = create_file(path)
            try:
                for offset in range(0, size, BLOCK_SIZE):
                    if stop.is_set():
                        raise Stopped
                    block = buffer[: min(BLOCK_SIZE, size - offset)]
                    _copy_block(origin, fd, start + offset, offset, block)
                    blocks.append(hashlib.sha256(block).digest())
                    part.update(block)
                    if sliced:
                        whole.update(block)
                    progress.advance(len(block))
                finish_file(fd)
            finally:
                os.close(fd)
            if sliced:
                slices.append(ListedFile(part.hexdigest(), size))
    if whole.hexdigest() != wanted.sha256:
        raise _damaged(source, f"sha256 {whole.hexdigest()}", f"sha256 {wanted.sha256}")
    return Copied(tuple(slices), b"".join(blocks))


@contextmanager
def _open(source: Path, wanted: ListedFile) -> Iterator[int]:
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as fault:
        raise FileMissing(
            f"the store has no file {wanted.sha256}",
            found=f"nothing at {source}",
            hint="run the build again: it fetches what is missing",
        ) from fault
    except PermissionError as fault:
        raise SettingsInvalid(
            f"the store cannot be read: {source}",
            found=fault.strerror,
            hint="correct its permissions, or name another store with --store",
        ) from fault
    try:
        size = os.fstat(fd).st_size
        if size != wanted.size:
            raise _damaged(source, f"{size:,} bytes", f"{wanted.size:,} bytes")
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield fd
    finally:
        os.close(fd)


def _copy_block(origin: int, target: int, source_offset: int, offset: int, block: memoryview) -> None:
    """Copy ``len(block)`` bytes between the files; ``block`` holds them afterwards."""
    if _kernel_copies(origin, target, source_offset, offset, len(block)):
        _read(target, block, offset)
        return
    _read(origin, block, source_offset)
    written = 0
    while written < len(block):
        written += os.pwrite(target, block[written:], offset + written)


def _kernel_copies(origin: int, target: int, source_offset: int, offset: int, size: int) -> bool:
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(origin, target, size - done, source_offset + done, offset + done)
        except OSError as fault:
            if fault.errno not in _CANNOT:
                raise
            return False
        if count == 0:
            return False
        done += count
    return True


def _read(fd: int, block: memoryview, offset: int) -> None:
    done = 0
    while done < len(block):
        count = os.preadv(fd, [block[done:]], offset + done)
        if count == 0:
            raise DigestMismatch("a file of the store became shorter while it was copied")
        done += count


def _damaged(source: Path, found: str, wanted: str) -> DigestMismatch:
    return DigestMismatch(
        f"a file of the store is damaged: {source}",
        found=found,
        wanted=wanted,
        hint="delete it and run the build again: it is fetched anew",
    )
