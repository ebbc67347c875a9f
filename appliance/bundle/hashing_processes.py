"""Hashing thousands of short files in forked processes (``appliance.bundle.forked``).

A process has the bundle's open folder and the list from the one it was forked from, so that all it is
told is a number in the list; it answers with the faults and the sizes it found.  What is short it finds
out itself, since it begins before the manifest was read: who reads that compares the sizes, and hashes
the others.  Each process adds about 8 MB to the memory of the whole.
"""

from __future__ import annotations

import os
import time
from array import array
from bisect import bisect_left
from concurrent.futures import as_completed
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, Self

from appliance.bundle.forked import Forked, answer
from appliance.bundle.hashing import LONG, UNKNOWN, Hasher
from appliance.bundle.plain_files import refuse_special
from appliance.bundle.sizes import measure
from appliance.errors import BundleUntrusted, DigestMismatch
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from concurrent.futures import Future

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.hashing import Wrong
    from appliance.bundle.lists import Lists
    from appliance.bundle.opening import BundleTree
    from appliance.progress import Progress

#: Files that a process is given at once: some hundredths of a second.
_BATCH: Final = 1024


#: A file system's clock may be as coarse as FAT's: two seconds.
_SETTLED: Final = 3_000_000_000
#: Of longer files, one look less would not show.
_SHORTEST: Final = 64 << 10


class Processes:
    """Processes that hash the short files of a list.

    Args:
        tree: the bundle.
        lists: its lists.
        read: paths of those that are left out.
        count: how many processes.
    """

    def __init__(self, tree: BundleTree, lists: Lists, read: Collection[str], count: int) -> None:
        self._tree = tree
        self._count = len(lists)
        self._batches = _Batches(lists, read)
        self._forked = Forked(count, partial(_begin, tree, self._batches))
        self._futures: dict[Future[tuple[array[int], list[DigestMismatch]]], int] = {}
        self._waiting = {first: self._batches.length(first) for first in range(0, len(lists), _BATCH)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._forked.close()

    def begin(self, numbers: Sequence[int]) -> None:
        """Hash files, by their ascending numbers in the list; once all of a batch may be opened.

        Opening a device can do harm, and a link leads away: so what is there was looked at before.
        """
        start, end = 0, bisect_left(numbers, self._count)
        while start < end:
            first = numbers[start] // _BATCH * _BATCH
            after = bisect_left(numbers, first + _BATCH, start, end)
            self._waiting[first] -= after - start
            if not self._waiting[first]:
                self._futures[self._forked.submit(first)] = first
            start = after

    def collect(self, files: ListedFiles, wrong: Wrong, progress: Progress) -> None:
        """Wait until all files are hashed, telling of each when its batch is done.

        Args:
            files: digest and size by path, in the order of the list.
            wrong: hears of every file that is wrong.
            progress: told of every file.

        Raises:
            DigestMismatch: a file has another size than was signed.
            FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
        """
        for future in as_completed(self._futures):
            first = self._futures[future]
            found, faults = answer(future)
            signed = files.sizes[first : first + _BATCH]
            if found != signed:
                self._compare(files, first, found)
            for fault in faults:
                wrong.add(fault)
            if short := [number for number in self._batches.numbers(first) if files.sizes[number] < LONG]:
                progress.item(files.listing.paths[short[-1]], len(short))
                progress.advance(sum(files.sizes[number] for number in short))

    def _compare(self, files: ListedFiles, first: int, found: Sequence[int]) -> None:
        """Refuse other sizes than were signed; one that is not known has its own fault."""
        for number, size in enumerate(found, first):
            if size not in (UNKNOWN, files.sizes[number]):
                measure(self._tree, files, range(len(files)))  # names all that have another
                raise DigestMismatch(
                    f"{self._tree.place(files.listing.paths[number])} was changed while it was read",
                    hint="make the medium read-only and verify again",
                )


class _Batches:
    """The files of a list, some at a time."""

    def __init__(self, lists: Lists, read: Collection[str]) -> None:
        self.lists = lists
        self._read = {lists.index.paths.index(path) for path in read}

    def numbers(self, first: int) -> list[int]:
        """Those to be looked at, from a number in the list on."""
        return [number for number in self._all(first) if number not in self._read]

    def of(self, first: int) -> Iterator[tuple[int, str, tuple[str, ...]]]:
        """Their places in the batch, paths and digests."""
        some = list(self.lists.some(first, first + _BATCH))
        return ((number - first, *some[number - first]) for number in self.numbers(first))

    def length(self, first: int) -> int:
        """How many these are, with those left out."""
        return len(self._all(first))

    def _all(self, first: int) -> range:
        return range(first, min(first + _BATCH, len(self.lists)))


class _Worker:
    """What a process keeps between two batches."""

    def __init__(self, tree: BundleTree, batches: _Batches, stopped: Callable[[], bool]) -> None:
        self._open = ExitStack()
        self._cursor = self._open.enter_context(tree.cursor())
        self._buffer = memoryview(bytearray(_SHORTEST))
        self._buffers = [self._buffer]
        self._fit = batches.lists.fit
        self._batches = batches
        self._stopped = stopped
        self._hasher = Hasher(
            tree,
            self._open.enter_context(tree.cursor()),
            batches.lists.kinds,
            progress=Silent(),
            stopped=stopped,
            leave=LONG,
        )

    def close(self) -> None:
        self._open.close()

    def size_if_right(self, path: str, digests: tuple[str, ...], settled: int) -> int | None:
        """The size of a file that is what was signed; None if that does not show at one look.

        ``Hasher`` looks before and after it reads, and says what is wrong.  One look, after, is enough for
        a file that was last changed well before it was read, and saves a twentieth of a short file's time.

        Args:
            path: the file's.
            digests: its digests.
            settled: a file that was changed since this time, in nanoseconds, is not judged here.
        """
        try:
            fd = self._cursor.open_unseen(path)
            try:
                size = os.readv(fd, self._buffers)
                found = os.fstat(fd)
            finally:
                os.close(fd)
            refuse_special(path, found)
        except (OSError, BundleUntrusted):
            return None
        unchanged = size == found.st_size and found.st_mtime_ns < settled and found.st_ctime_ns < settled
        return size if unchanged and self._fit(self._buffer[:size], digests) else None

    def check(self, first: int) -> tuple[array[int], list[DigestMismatch]]:
        """The sizes of a batch of files, ``UNKNOWN`` of those left out, and what is wrong with them."""
        faults = []
        sizes = array("q", [UNKNOWN]) * self._batches.length(first)
        settled = time.time_ns() - _SETTLED
        for place, path, digests in self._batches.of(first):
            if self._stopped():
                break
            if (size := self.size_if_right(path, digests, settled)) is not None:
                sizes[place] = size
                continue
            if fault := self._hasher.check(path, digests):
                faults.append(fault)
            sizes[place] = self._hasher.size
        return sizes, faults


def _begin(
    tree: BundleTree, batches: _Batches, stopped: Callable[[], bool]
) -> Callable[[int], tuple[array[int], list[DigestMismatch]]]:
    return _Worker(tree, batches, stopped).check
