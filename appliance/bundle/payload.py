"""Copying the payload from the store into a bundle, several files at a time.

The long files go first, the longest before all others, so that no thread is left with one at the
end.  The short ones follow in manifest order, taken one by one from the lock: a bundle of 200,000 files
needs no list of them.  Where there are thousands of them, forked processes copy them meanwhile
(``appliance.bundle.copying_processes``).
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from appliance.bundle.blocks import BLOCK_SIZE, DIGEST_SIZE, block_count
from appliance.bundle.copying import Copier, Stopped
from appliance.bundle.known_digests import Known
from appliance.bundle.locked_files import LockedFiles
from appliance.bundle.manifest import ListedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from contextlib import AbstractContextManager
    from pathlib import Path

    from appliance.bundle.copying_processes import CopyingProcesses
    from appliance.bundle.manifest import Component, Manifest
    from appliance.progress import Progress

#: Each thread that copies has up to three that hash; more of them would only need more memory.
_MOST_WORKERS: Final = 8
#: Blocks in memory, of all threads together: 64 MiB.
_BUFFERS: Final = 16
_MOST_BUFFERS: Final = 4  # of one thread: enough to keep its three others busy
#: Files of at most one block are copied by processes, if there are so many that starting these is worth it.
MANY: Final = 4096


class Store(Known, Protocol):
    """Where the bytes of the artefacts are kept (``appliance.sources.store.Store``)."""

    def path(self, sha256: str) -> Path:
        """The file with this digest."""

    def place(self, sha256: str) -> str:
        """The same as text."""


def copy_payload(
    folder: Path, draft: Manifest, store: Store, slice_size: int, progress: Progress
) -> tuple[Manifest, bytes]:
    """Copy every payload file of ``draft`` into ``folder``.

    Returns:
        The manifest with the digests of slices, and the bytes of ``blocks.bin``.

    Raises:
        FileMissing, DigestMismatch, SettingsInvalid: as ``Copier.copy``.
        OSError: the folder cannot be written to.
    """
    work = _Work(draft)
    for parent in sorted(work.folders):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    buffers = min(_BUFFERS // workers, _MOST_BUFFERS)

    def copy_some() -> None:
        copier = Copier(
            slice_size=slice_size, buffers=buffers, progress=progress, stop=work.stop, known=store
        )
        with copier:
            while (taken := work.take()) is not None:
                copied = copier.copy(
                    store.path(taken.sha256), f"{folder}/{taken.path}", ListedFile(taken.sha256, taken.size)
                )
                work.done(taken, copied.slices, copied.blocks)
                progress.item(taken.path)

    with _processes(folder, draft, work, store, workers) as processes, ThreadPoolExecutor(workers) as pool:
        # Not later: showing progress may take a thread, and threads do not survive a fork.
        short = processes.begin() if processes else []
        progress.begin("write", work.files, work.size)
        try:
            if processes:
                processes.tell(progress)
                work.leave_short(draft)
            threads = [pool.submit(copy_some) for _ in range(workers if work.are_left else 0)]
            futures: list[Future[Any]] = [*short, *threads]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            work.stop.set()
            pool.shutdown()
            if processes:
                processes.close()
            progress.end()
    for future in threads:
        if (fault := future.exception()) and not isinstance(fault, Stopped):
            raise fault
    if processes:
        processes.check()
    return _with_slices(draft, work.slices), bytes(work.index)


def _processes(
    folder: Path, draft: Manifest, work: _Work, store: Store, count: int
) -> AbstractContextManager[CopyingProcesses | None]:
    """What copies the short files, if they are many."""
    if work.short < MANY:
        return nullcontext()
    from appliance.bundle.copying_processes import CopyingProcesses
    from appliance.bundle.forked import can_fork

    if not can_fork():
        return nullcontext()
    files = [_locked(component) for component in draft.components.values()]
    return CopyingProcesses(folder, files, store.place, count)


def payload_room(draft: Manifest, per_file: int) -> int:
    """Bytes of all payload files, and so many more for each."""
    return sum(
        size + per_file for component in draft.components.values() for size in _locked(component).sizes()
    )


class _File(NamedTuple):
    """A file that is to be copied; ``place`` is that of its digests in the block index."""

    path: str
    size: int
    sha256: str
    place: int


class _Work:
    """What there is to copy, and what was learnt of it; safe to use from several threads.

    ``index`` becomes ``blocks.bin``; ``slices`` are those of the cut files, by path.  ``folders`` is where
    they will lie, ``files`` and ``size`` how many they are, and of how many bytes; ``short`` how many have
    at most one block; ``are_left`` is whether ``take`` has any to give.
    """

    def __init__(self, draft: Manifest) -> None:
        self.slices: dict[str, tuple[ListedFile, ...]] = {}
        self.folders: set[str] = set()
        self.files = self.size = end = 0
        long = []
        for file in _placed(draft):
            self.folders.add(file.path.rpartition("/")[0])
            self.files += 1
            self.size += file.size
            end = _end(file)
            if file.size > BLOCK_SIZE:
                long.append(file)
        self.index = bytearray(end)
        self.stop = threading.Event()
        self._lock = threading.Lock()
        long.sort(key=lambda file: (-file.size, file.place))
        self._long = long
        self.short = self.files - len(long)
        self.are_left = self.files > 0
        short = (file for file in _placed(draft) if file.size <= BLOCK_SIZE)
        self._waiting: Iterator[_File] = chain(long, short)

    def leave_short(self, draft: Manifest) -> None:
        """Others copy the files of at most one block; its digest is the file's own."""
        self._waiting = iter(self._long)
        self.are_left = bool(self._long)
        for file in _placed(draft):
            if 0 < file.size <= BLOCK_SIZE:
                self.index[file.place : file.place + DIGEST_SIZE] = bytes.fromhex(file.sha256)

    def take(self) -> _File | None:
        """The next file; None when there is no more."""
        with self._lock:
            return None if self.stop.is_set() else next(self._waiting, None)

    def done(self, file: _File, slices: tuple[ListedFile, ...], blocks: bytes) -> None:
        """Keep what was learnt of a file."""
        self.index[file.place : file.place + len(blocks)] = blocks
        if slices:
            self.slices[file.path] = slices


def _placed(draft: Manifest) -> Iterator[_File]:
    """Every payload file, in manifest order."""
    place = 0
    for component in draft.components.values():
        for path, size, sha256 in _locked(component).brief():
            file = _File(path, size, sha256, place)
            yield file
            place = _end(file)


def _end(file: _File) -> int:
    """Where a file's digests end in the block index.  Cut or not: slices are whole blocks."""
    return file.place + DIGEST_SIZE * block_count(file.size)


def _locked(component: Component) -> LockedFiles:
    if not isinstance(component.files, LockedFiles):
        raise TypeError("the files of a draft are those of a lock")
    return component.files


def _with_slices(draft: Manifest, slices: dict[str, tuple[ListedFile, ...]]) -> Manifest:
    """The manifest in which the cut files have these slices."""
    components = {
        name: replace(component, files=_locked(component).with_slices(slices))
        for name, component in draft.components.items()
    }
    return replace(draft, components=components)
