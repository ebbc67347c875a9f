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
        self._batches = _Batches(files, frozenset(read))
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
            size = 0
            for path, file in self._batches.of(self._futures[future]):
                progress.item(path)
                size += file.size
            progress.advance(size)


class _Batches:
    """The short files, some at a time."""

    def __init__(self, files: ListedFiles, read: frozenset[str]) -> None:
        self._files = files
        self._read = read

    def of(self, first: int) -> Iterator[tuple[str, ListedFile]]:
        """Those among the files from a number in the list on."""
        for path, file in self._files.some(first, first + _BATCH):
            if file.size < LONG and path not in self._read:
                yield path, file


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
