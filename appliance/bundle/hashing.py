"""Hashing a bundle's files on all cores, in bounded memory.

Threads take one file after another, the longest first, so that none is left with a long one at the end:
reading and hashing release the interpreter's lock.  Files over 1 GiB lie in slices, which is what lets
several cores share one large model.

Short files are too quick for that: threads would spend a fifth of their time handing the lock around.
Where there are thousands of them, forked processes share them out (docs/decisions/0010).
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from appliance.bundle.tree import MEND, unreadable
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.opening import BundleTree, Cursor
    from appliance.progress import Progress

#: Shorter files are hashed by processes, if there are so many of them that starting these is worth it.
LONG: Final = 16 << 20
MANY: Final = 4096
_BUFFER: Final = 256 << 10  # stays in a core's cache between reading and hashing
_REPORT: Final = 16 << 20  # bytes between two reports of progress
_NAMES_SHOWN: Final = 10


def check_bytes(
    tree: BundleTree,
    files: ListedFiles,
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
        workers: threads or processes; one for each core this process may use if None.

    Raises:
        DigestMismatch: naming every file that is wrong or cannot be read.
        FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
    """
    count = workers or len(os.sched_getaffinity(0))
    wrong = Wrong()
    many = sum(size < LONG for size in files.sizes) >= MANY and threading.active_count() == 1
    alone = [number for number, size in enumerate(files.sizes) if size >= LONG or not many]
    alone.sort(key=lambda number: -files.sizes[number])
    with ExitStack() as stack:
        processes = None
        if many:  # before progress begins: showing it may take a thread, and threads do not survive a fork
            from appliance.bundle.hashing_processes import Processes

            processes = stack.enter_context(Processes(tree, files, read, count))
        progress.begin("verify", len(files), files.size)
        stack.callback(progress.end)
        for path in read:
            progress.item(path)
            progress.advance(files[path].size)
        if processes:
            processes.collect(wrong, progress)
        paths = (files.listing.paths[number] for number in alone)
        rest = ((path, files[path]) for path in paths if path not in read)
        _check_in_threads(tree, rest, wrong, progress=progress, count=count)
    wrong.raise_all()


class Wrong:
    """The files found wrong: how many, and the first of them."""

    def __init__(self) -> None:
        self._count = 0
        self._first: list[DigestMismatch] = []

    def add(self, fault: DigestMismatch) -> None:
        """Keep a fault, if there is room."""
        self._count += 1
        if len(self._first) < _NAMES_SHOWN:
            self._first.append(fault)

    def raise_all(self) -> None:
        """Raise one error for all of them, if there are any."""
        if self._count == 1:
            raise self._first[0]
        if self._count:
            raise DigestMismatch(
                f"{self._count} files are not what was signed",
                found="; ".join(fault.message for fault in self._first),
                hint=MEND,
            )


class Hasher:
    """Hashes one file after another, for one thread.

    Args:
        tree: the bundle.
        cursor: opens its files.
        progress: told of every 16 MiB of a long file, and of the rest at its end.
        stop: when set, a long file is given up.
    """

    def __init__(
        self, tree: BundleTree, cursor: Cursor, progress: Progress, stop: threading.Event | None = None
    ) -> None:
        self._tree = tree
        self._cursor = cursor
        self._progress = progress
        self._stop = stop
        self._buffer = memoryview(bytearray(_BUFFER))

    def check(self, path: str, wanted: ListedFile) -> DigestMismatch | None:
        """What is wrong with a file, if anything is.

        Raises:
            FileMissing, FileUnexpected: it was taken away or exchanged.
        """
        try:
            found = self._digest(path)
        except DigestMismatch as fault:
            return fault
        if found == wanted.sha256:
            return None
        return DigestMismatch(
            f"{self._tree.place(path)} is not what was signed",
            found=f"sha256 {found}",
            wanted=f"sha256 {wanted.sha256}",
            hint=MEND,
        )

    def _digest(self, path: str) -> str:
        """SHA-256 (hex) of a file, which must not change while it is read."""
        digest = hashlib.sha256()
        buffer, size, reported = self._buffer, 0, 0
        fd, before = self._cursor.open(path)
        try:
            if before.st_size > _BUFFER:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            # Not until nothing comes: should the file grow meanwhile, its new size tells.
            while size < before.st_size and (count := os.readv(fd, [buffer])):
                digest.update(buffer[:count])
                size += count
                if size - reported >= _REPORT:
                    self._progress.advance(size - reported)
                    reported = size
                    if self._stop and self._stop.is_set():
                        break
            after = os.fstat(fd)
        except OSError as fault:
            raise unreadable(self._tree.place(path), fault) from fault
        finally:
            os.close(fd)
        self._progress.advance(size - reported)
        if _version(after) != _version(before) or size != before.st_size:
            raise DigestMismatch(
                f"{self._tree.place(path)} was changed while it was read",
                hint="make the medium read-only and verify again",
            )
        return digest.hexdigest()


def _check_in_threads(
    tree: BundleTree,
    files: Iterator[tuple[str, ListedFile]],
    wrong: Wrong,
    *,
    progress: Progress,
    count: int,
) -> None:
    stop, lock = threading.Event(), threading.Lock()

    def take() -> tuple[str, ListedFile] | None:
        with lock:
            return None if stop.is_set() else next(files, None)

    def run() -> None:
        with tree.cursor() as cursor:
            hasher = Hasher(tree, cursor, progress, stop)
            while taken := take():
                if fault := hasher.check(*taken):
                    with lock:
                        wrong.add(fault)
                progress.item(taken[0])

    with ThreadPoolExecutor(count) as pool:
        try:
            futures = [pool.submit(run) for _ in range(count)]
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()  # raises at once what makes going on pointless
        finally:
            stop.set()


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
