"""Hashing thousands of short files in forked processes.

A process has the bundle's open folder and the list from the one it was forked from, so that all it is
told is a number in the list; it answers with the faults it found.  What it reads stays in its own small
buffer: each adds about 8 MB to the memory of the whole, the rest is shared until somebody writes to it.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from appliance.bundle.hashing import LONG, Hasher
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.hashing import Wrong
    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.opening import BundleTree
    from appliance.errors import DigestMismatch
    from appliance.progress import Progress

#: Files that a process is given at once: some hundredths of a second.
_BATCH: Final = 256


class Processes:
    """Processes that hash the short ones of ``files``; they begin at once.

    Args:
        tree: the bundle.
        files: digest and size by path.
        read: paths of those that are left out.
        count: how many processes.
    """

    def __init__(self, tree: BundleTree, files: ListedFiles, read: Collection[str], count: int) -> None:
        self._batches = _Batches(files, read)
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(tree, self._batches),  # inherited, not copied
        )
        self._futures = {self._pool.submit(_check, first): first for first in range(0, len(files), _BATCH)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def collect(self, wrong: Wrong, progress: Progress) -> None:
        """Wait until all files are hashed, telling of each when its batch is done.

        Raises:
            FileMissing, FileUnexpected: a file was taken away or exchanged meanwhile.
        """
        for future in as_completed(self._futures):
            for fault in future.result():
                wrong.add(fault)
            first = self._futures[future]
            if numbers := self._batches.numbers(first):
                progress.item(self._batches.files.listing.paths[numbers[-1]], len(numbers))
                progress.advance(sum(self._batches.files.sizes[number] for number in numbers))


class _Batches:
    """The short files, some at a time."""

    def __init__(self, files: ListedFiles, read: Collection[str]) -> None:
        self.files = files
        self._read = {files.listing.paths.index(path) for path in read}

    def numbers(self, first: int) -> list[int]:
        """Those among the files from a number in the list on."""
        sizes = self.files.sizes[first : first + _BATCH]
        return [
            number for number, size in enumerate(sizes, first) if size < LONG and number not in self._read
        ]

    def of(self, first: int) -> Iterator[tuple[str, ListedFile]]:
        """Their paths, digests and sizes."""
        some = list(self.files.some(first, first + _BATCH))
        return (some[number - first] for number in self.numbers(first))


class _Worker:
    """What a process keeps between two batches."""

    def __init__(self, tree: BundleTree, batches: _Batches) -> None:
        self._open = ExitStack()
        self.batches = batches
        self.hasher = Hasher(tree, self._open.enter_context(tree.cursor()), Silent())


_worker: _Worker


def _begin(tree: BundleTree, batches: _Batches) -> None:
    global _worker  # noqa: PLW0603 - the one way a pool leaves to keep something in a process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shares out the work
    gc.freeze()  # looking for garbage among what is shared would copy it
    _worker = _Worker(tree, batches)


def _check(first: int) -> list[DigestMismatch]:
    found = (_worker.hasher.check(path, wanted) for path, wanted in _worker.batches.of(first))
    return [fault for fault in found if fault]
