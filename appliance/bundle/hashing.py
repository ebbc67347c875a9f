"""Hashing a bundle's files on all cores, in bounded memory.

Each worker thread reads one file at a time through a buffer of its own; reading and hashing release
the interpreter's lock.  Long files go first, so that no thread is left with one at the end; files over
1 GiB lie in slices, which is what lets several cores share one large model.  Short files follow in the
order of the list, some dozens at a time, so that a thread stays in one folder.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Final

from appliance.bundle.tree import unreadable
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.opening import BundleTree, Cursor
    from appliance.progress import Progress

_BUFFER: Final = 256 << 10  # stays in a core's cache between reading and hashing
_REPORT: Final = 16 << 20  # bytes between two reports of progress
_LONG: Final = 64 << 20
_BATCH: Final = 64  # short files that a thread takes at once
_NAMES_SHOWN: Final = 10


def check_bytes(
    tree: BundleTree,
    files: Mapping[str, ListedFile],
    *,
    progress: Progress,
    read: Collection[str] = (),
    workers: int | None = None,
) -> None:
    """Hash every one of ``files`` and compare; all are read even if some are wrong.

    Args:
        tree: the bundle.
        files: digest and size by path.
        progress: told of every file.
        read: paths of those that were read, hashed and found right already.
        workers: threads; one for each core this process may use if None.

    Raises:
        DigestMismatch: naming every file that is wrong or cannot be read.
        FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
    """
    count = workers or len(os.sched_getaffinity(0))
    progress.begin("verify", len(files), sum(file.size for file in files.values()))
    work = _Work(tree, files, frozenset(read), progress)
    with ThreadPoolExecutor(count) as pool:
        try:
            for path in read:
                progress.item(path)
            progress.advance(sum(files[path].size for path in read))
            futures = [pool.submit(work.run) for _ in range(count)]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()  # raises at once what makes going on pointless
        finally:
            work.stop.set()
            pool.shutdown()
            progress.end()
    work.raise_wrong()


class _Work:
    """The files that are left to check, and those found wrong; used by several threads."""

    def __init__(
        self, tree: BundleTree, files: Mapping[str, ListedFile], read: frozenset[str], progress: Progress
    ) -> None:
        self.stop = threading.Event()
        self._tree = tree
        self._progress = progress
        self._lock = threading.Lock()
        self._batches = _batches(files, read)
        self._wrong: list[DigestMismatch] = []  # the first of them
        self._count = 0

    def run(self) -> None:
        """Check files until none is left, or somebody says stop."""
        buffer = memoryview(bytearray(_BUFFER))
        unreported = 0
        with self._tree.cursor() as cursor:
            while batch := self._take():
                for path, wanted in batch:
                    try:
                        found = self._digest(cursor, path, wanted, buffer)
                    except DigestMismatch as fault:
                        self._note(fault)
                        continue
                    self._progress.item(path)
                    if found != wanted.sha256:
                        self._note(_mismatch(self._tree.place(path), found, wanted))
                    if (unreported := unreported + wanted.size % _REPORT) >= _REPORT:
                        self._progress.advance(unreported)
                        unreported = 0
        self._progress.advance(unreported)

    def raise_wrong(self) -> None:
        """Raise one error for all files that were wrong."""
        if self._count == 1:
            raise self._wrong[0]
        if self._count:
            raise DigestMismatch(
                f"{self._count} files are not what was signed",
                found="; ".join(sorted(fault.message for fault in self._wrong)),
                hint="copy these files again from their medium",
            )

    def _take(self) -> list[tuple[str, ListedFile]]:
        with self._lock:
            return [] if self.stop.is_set() else next(self._batches, [])

    def _note(self, fault: DigestMismatch) -> None:
        with self._lock:
            self._count += 1
            if len(self._wrong) < _NAMES_SHOWN:
                self._wrong.append(fault)

    def _digest(self, cursor: Cursor, path: str, wanted: ListedFile, buffer: memoryview) -> str:
        """SHA-256 (hex) of a file, which must not change while it is read; reports whole ``_REPORT``s."""
        digest = hashlib.sha256()
        size = reported = 0
        fd, before = cursor.open(path)
        try:
            if wanted.size > _BUFFER:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while count := os.readv(fd, [buffer]):
                digest.update(buffer[:count])
                size += count
                if size - reported >= _REPORT:
                    self._progress.advance(_REPORT)
                    reported += _REPORT
                    if self.stop.is_set():
                        break
                if size > before.st_size:
                    break
            after = os.fstat(fd)
        except OSError as fault:
            raise unreadable(self._tree.place(path), fault) from fault
        finally:
            os.close(fd)
        if _version(after) != _version(before) or size != before.st_size:
            raise DigestMismatch(
                f"{self._tree.place(path)} was changed while it was read",
                hint="make the medium read-only and verify again",
            )
        return digest.hexdigest()


def _batches(
    files: Mapping[str, ListedFile], read: frozenset[str]
) -> Iterator[list[tuple[str, ListedFile]]]:
    """The files to check: long ones by themselves, the longest first, then the others some at a time."""
    long = sorted((-file.size, path) for path, file in files.items() if file.size > _LONG)
    short = (each for each in files.items() if each[1].size <= _LONG and each[0] not in read)
    yield from ([(path, files[path])] for _, path in long if path not in read)
    while batch := list(islice(short, _BATCH)):
        yield batch


def _mismatch(place: str, found: str, wanted: ListedFile) -> DigestMismatch:
    return DigestMismatch(
        f"{place} is not what was signed",
        found=f"sha256 {found}",
        wanted=f"sha256 {wanted.sha256}",
        hint="copy the file again from its medium",
    )


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
