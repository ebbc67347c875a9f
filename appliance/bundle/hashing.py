"""Hashing a bundle's files on all cores, in bounded memory.

Threads take one file after another, the longest first, so that none is left with a long one at the end:
reading and hashing release the interpreter's lock.  Files over 1 GiB lie in slices, which is what lets
several cores share one large model.

Short files are too quick for that: threads would spend a fifth of their time handing the lock around.
Where there are thousands of them, forked processes share them out (docs/decisions/0010), and begin as soon
as the list is known to be signed.

A file is right if it has the digest of each list of the bundle (``appliance.bundle.lists``); all of them
are computed from the same bytes, read once.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from appliance.bundle.list_kind import Hashes, differing
from appliance.bundle.plain_files import MEND, unreadable
from appliance.bundle.tree import Tree
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.hashing_processes import Processes
    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.lists import Lists
    from appliance.bundle.opening import BundleTree, Cursor
    from appliance.progress import Progress

#: Shorter files are hashed by processes, if there are so many of them that starting these is worth it.
LONG: Final = 16 << 20
MANY: Final = 4096
#: Stands for a size that is not known.
UNKNOWN: Final = -1
_BUFFER: Final = 256 << 10  # stays in a core's cache between reading and hashing
_REPORT: Final = 16 << 20  # bytes between two reports of progress
_NAMES_SHOWN: Final = 10


@contextmanager
def hashing_meanwhile(
    tree: BundleTree, lists: Lists, read: Collection[str], workers: int | None = None
) -> Iterator[Processes | None]:
    """Processes to hash while the manifest is read, where there are so many files that it is worth it.

    Nothing but the signed list is needed for it.  None of a bundle on several volumes: what lies where
    is to be looked up first.

    Args:
        tree: the bundle.
        lists: its lists, which must have been signed.
        read: paths of files that somebody else reads and compares.
        workers: as of ``check_bytes``.
    """
    if not isinstance(tree, Tree) or not _for_processes(len(lists)):
        yield None
        return
    with _processes(tree, lists, read, workers) as processes:
        yield processes


def check_bytes(
    tree: BundleTree,
    files: ListedFiles,
    *,
    progress: Progress,
    read: Collection[str] = (),
    workers: int | None = None,
    begun: Processes | None = None,
) -> None:
    """Hash every one of ``files`` and compare; all are read even if some are wrong.

    Args:
        tree: the bundle.
        files: digest and size by path.
        progress: told of every file.
        read: paths of those that were read, hashed and found right already.
        workers: threads or processes; one for each core this process may use if None.
        begun: what hashes the short ones already, and leaves the same to others.

    Raises:
        DigestMismatch: naming every file that is wrong or cannot be read.
        FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
    """
    wrong = Wrong()
    with ExitStack() as stack:
        processes = begun
        if not processes and _for_processes(sum(size < LONG for size in files.sizes)):
            processes = stack.enter_context(_processes(tree, files.lists, read, workers))
            processes.begin(range(len(files)))
        # Not earlier: showing progress may take a thread, and threads do not survive a fork.
        progress.begin("verify", len(files), files.size)
        stack.callback(progress.end)
        for path in read:
            progress.item(path)
            progress.advance(files[path].size)
        if processes:
            processes.collect(files, wrong, progress)
        alone = [number for number, size in enumerate(files.sizes) if size >= LONG or not processes]
        alone.sort(key=lambda number: -files.sizes[number])
        paths = (files.listing.paths[number] for number in alone)
        rest = ((path, files.lists.wanted(path)) for path in paths if path not in read)
        _check_in_threads(
            tree, rest, files.lists.kinds, wrong, progress=progress, count=worker_count(workers)
        )
    wrong.raise_all()


def _for_processes(count: int) -> bool:
    """Whether so many short files are hashed by processes."""
    if count < MANY:
        return False
    from appliance.bundle.forked import can_fork

    return can_fork()


def _processes(tree: BundleTree, lists: Lists, read: Collection[str], workers: int | None) -> Processes:
    from appliance.bundle.hashing_processes import Processes

    return Processes(tree, lists, read, worker_count(workers))


def worker_count(workers: int | None = None) -> int:
    """So many threads or processes: one for each core this process may use, if nobody said."""
    return workers or len(os.sched_getaffinity(0))


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

    ``size`` is that of the last file in bytes, or ``UNKNOWN`` if it could not be opened.

    Args:
        tree: the bundle.
        cursor: opens its files.
        kinds: the lists by whose digests files are hashed.
        progress: told of every 16 MiB of a long file, and of the rest at its end.
        stopped: whether a long file is to be given up.
        leave: files of so many bytes are opened, but left to others to hash.
    """

    def __init__(
        self,
        tree: BundleTree,
        cursor: Cursor,
        kinds: Sequence[ListKind],
        *,
        progress: Progress,
        stopped: Callable[[], bool],
        leave: int | None = None,
    ) -> None:
        self.size = UNKNOWN
        self._tree = tree
        self._cursor = cursor
        self._kinds = kinds
        self._progress = progress
        self._stopped = stopped
        self._leave = leave
        self._buffer = memoryview(bytearray(_BUFFER))

    def check(self, path: str, digests: tuple[str, ...]) -> DigestMismatch | None:
        """What is wrong with a file, if anything is.

        Raises:
            FileMissing, FileUnexpected: it was taken away or exchanged.
        """
        try:
            found = self.digests(path)
        except DigestMismatch as fault:
            return fault
        if found == digests or found is None:
            return None
        one, other = differing(self._kinds, found, digests)
        return DigestMismatch(
            f"{self._tree.place(path)} is not what was signed", found=one, wanted=other, hint=MEND
        )

    def digests(self, path: str) -> tuple[str, ...] | None:
        """The digests (hex) of a file, which must not change while it is read; None of one that is left.

        Raises:
            DigestMismatch: it changed, or cannot be read.
            FileMissing, FileUnexpected: it was taken away or exchanged.
        """
        self.size = UNKNOWN
        hashes = Hashes.of(self._kinds)
        buffer, size, reported = self._buffer, 0, 0
        fd, before = self._cursor.open(path)
        try:
            self.size = before.st_size
            if self._leave is not None and self.size >= self._leave:
                return None
            if self.size > _BUFFER:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            # Not until nothing comes: should the file grow meanwhile, its new size tells.
            while size < self.size and (count := os.readv(fd, [buffer])):
                hashes.update(buffer[:count])
                size += count
                if size - reported >= _REPORT:
                    self._progress.advance(size - reported)
                    reported = size
                    if self._stopped():
                        break
            after = os.fstat(fd)
        except OSError as fault:
            raise unreadable(self._tree.place(path), fault) from fault
        finally:
            os.close(fd)
        self._progress.advance(size - reported)
        if size != self.size or _version(after) != _version(before):
            raise DigestMismatch(
                f"{self._tree.place(path)} was changed while it was read",
                hint="make the medium read-only and verify again",
            )
        return hashes.hexdigests()


def _check_in_threads(
    tree: BundleTree,
    files: Iterator[tuple[str, tuple[str, ...]]],
    kinds: Sequence[ListKind],
    wrong: Wrong,
    *,
    progress: Progress,
    count: int,
) -> None:
    stop, lock = threading.Event(), threading.Lock()

    def take() -> tuple[str, tuple[str, ...]] | None:
        with lock:
            return None if stop.is_set() else next(files, None)

    def run() -> None:
        with tree.cursor() as cursor:
            hasher = Hasher(tree, cursor, kinds, progress=progress, stopped=stop.is_set)
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
