"""Copying artefacts from the store into a bundle, hashed and cut on the way.

Each block is copied by the kernel (``copy_file_range``, which shares the blocks on file systems that
can) and then read back from the *copy*: the digests are of what lies in the bundle.  Where the kernel
cannot copy, the block is read, hashed and written from one buffer.  Never a hard link: whoever can
write to the bundle must not be able to change the store.

A ``Copier`` serves one thread.  It hashes what it has copied in threads of its own while it copies on
(``appliance.bundle.streams``).  Digests of slices and blocks that the store knows are not computed again
(``appliance.bundle.known_digests``); the whole always is.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.durable import begin_writing_back, create_file, settle_file
from appliance.bundle.known_digests import known_bytes, read_known
from appliance.bundle.paths import slice_path
from appliance.bundle.streams import Digests, Streams
from appliance.errors import DigestMismatch, FileMissing, SettingsInvalid

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from appliance.bundle.known_digests import Known
    from appliance.bundle.manifest import ListedFile
    from appliance.progress import Progress

#: What kernels and file systems say when they will not copy between these two files.
CANNOT: Final = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})

#: What file systems share is whole blocks, of this size nearly everywhere; where it is another, they copy.
_SHARED: Final = 4096


class Stopped(Exception):
    """Another copy failed; this one was ended early."""


class Copier:
    """Copies one artefact after another; to be used in a ``with`` statement.

    Args:
        slice_size: bytes; longer files are cut.  A multiple of the block size.
        buffers: how many blocks of a long file are kept in memory, at least one.
        progress: told of every block.
        stop: set when a copy shall end early.
        known: where the digests of slices and blocks may be kept; None to compute all.
    """

    def __init__(
        self,
        *,
        slice_size: int,
        buffers: int,
        progress: Progress,
        stop: threading.Event,
        known: Known | None = None,
    ) -> None:
        self._known = known
        self._slice_size = slice_size
        self._progress = progress
        self._stop = stop
        self._streams = Streams(buffers)
        self._block = memoryview(bytearray(BLOCK_SIZE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._streams.close()

    def copy(self, source: Path, target: str, wanted: ListedFile) -> Digests:
        """Copy ``source`` to the new file ``target``, or to its slices if it is long.

        The bytes are not on the disk yet: see ``durable.sync_file_system``.

        Args:
            source: a file of the store.
            target: the path where the whole file would lie; its folder exists.
            wanted: digest and size in bytes that the bytes must have.

        Raises:
            DigestMismatch: the bytes are not those that were locked.
            FileMissing: the store lacks the file.
            SettingsInvalid: the store cannot be read.
            Stopped: ``stop`` was set.
        """
        with _open(source, wanted) as origin:
            if wanted.size <= BLOCK_SIZE:
                known, digests = None, self._copy_short(origin, target, wanted.size)
            else:
                known = read_known(self._known, origin, wanted, self._slice_size) if self._known else None
                digests = self._copy_long(origin, target, wanted.size, known)
        if digests.whole != wanted.sha256:
            raise damaged(source, f"sha256 {digests.whole}", f"sha256 {wanted.sha256}")
        if self._known and not known and wanted.size > BLOCK_SIZE:
            self._known.keep_known(wanted.sha256, known_bytes(digests, wanted.size, self._slice_size))
        return digests

    def _copy_short(self, origin: int, target: str, size: int) -> Digests:
        """Copy a file of one block, or none: one digest serves as both."""
        block = self._block[:size]
        with _create(target) as fd:
            _copy_block(origin, fd, 0, 0, block)
        self._progress.advance(size)
        digest = hashlib.sha256(block)
        return Digests(digest.hexdigest(), (), digest.digest() if size else b"")

    def _copy_long(self, origin: int, target: str, size: int, known: Digests | None) -> Digests:
        sliced = size > self._slice_size
        self._streams.begin(known)
        for number, start in enumerate(range(0, size, self._slice_size)):
            path = slice_path(target, number) if sliced else target
            self._copy_slice(origin, start, path, min(self._slice_size, size - start))
        digests = self._streams.finish()
        return digests if sliced else replace(digests, slices=())

    def _copy_slice(self, origin: int, start: int, path: str, size: int) -> None:
        self._streams.begin_slice()
        with _create(path) as fd:
            for offset in range(0, size, BLOCK_SIZE):
                if self._stop.is_set():
                    raise Stopped
                block = self._streams.buffer(min(BLOCK_SIZE, size - offset))
                _copy_block(origin, fd, start + offset, offset, block)
                begin_writing_back(fd, offset, len(block))
                self._streams.add(block)
                self._progress.advance(len(block))


@contextmanager
def _create(path: str) -> Iterator[int]:
    fd = create_file(path)
    try:
        yield fd
        settle_file(fd)
    finally:
        os.close(fd)


@contextmanager
def _open(source: Path, wanted: ListedFile) -> Iterator[int]:
    fd = open_source(source, wanted)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield fd
    finally:
        os.close(fd)


def open_source(source: Path | str, wanted: ListedFile) -> int:
    """A descriptor of a file of the store, which has the size it is to have.

    Raises:
        DigestMismatch, FileMissing, SettingsInvalid: as of ``Copier.copy``.
    """
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
    size = os.fstat(fd).st_size
    if size != wanted.size:
        os.close(fd)
        raise damaged(source, f"{size:,} bytes", f"{wanted.size:,} bytes")
    return fd


def _copy_block(origin: int, target: int, source_offset: int, offset: int, block: memoryview) -> None:
    """Copy ``len(block)`` bytes between the files; ``block`` holds them afterwards."""
    if kernel_copies(origin, target, source_offset, offset, len(block)):
        read_block(target, block, offset)
        return
    read_block(origin, block, source_offset)
    write_block(target, block, offset)


def kernel_copies(origin: int, target: int, source_offset: int, offset: int, size: int) -> bool:
    """Let the kernel copy bytes between files, shared where the file system can; False if it will not.

    Files share whole blocks, so what lies before the first is copied apart; of what lies behind the last
    the kernel knows.  What it may have copied before it would not is copied again by the caller.
    """
    done, alike = 0, source_offset % _SHARED == offset % _SHARED
    while done < size:
        most = size - done
        if alike and (before := -(offset + done) % _SHARED):
            most = min(most, before)
        try:
            count = os.copy_file_range(origin, target, most, source_offset + done, offset + done)
        except OSError as fault:
            if fault.errno not in CANNOT:
                raise
            return False
        if count == 0:
            return False
        done += count
    return True


def read_block(fd: int, block: memoryview, offset: int) -> None:
    """Fill ``block`` with what lies in a file from ``offset`` on.

    Raises:
        DigestMismatch: the file ends before.
    """
    done = 0
    while done < len(block):
        count = os.preadv(fd, [block[done:]], offset + done)
        if count == 0:
            raise DigestMismatch("a file of the store became shorter while it was copied")
        done += count


def write_block(fd: int, block: memoryview, offset: int) -> None:
    """Write all of ``block`` to a file, from ``offset`` on."""
    written = 0
    while written < len(block):
        written += os.pwrite(fd, block[written:], offset + written)


def damaged(source: Path | str, found: str, wanted: str) -> DigestMismatch:
    """What to say of a file of the store whose bytes are not those that were locked."""
    return DigestMismatch(
        f"a file of the store is damaged: {source}",
        found=found,
        wanted=wanted,
        hint="delete it and run the build again: it is fetched anew",
    )
