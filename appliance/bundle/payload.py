"""Copying the payload from the store into a bundle, several files at a time.

The long files go first, the longest before all others, so that no thread is left with one at the
end.  The short ones follow in manifest order, taken one by one from the manifest: a bundle of 200,000
files needs no second list of them.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.blocks import BLOCK_SIZE, DIGEST_SIZE, block_count, blocks_size
from appliance.bundle.copying import Copier, Stopped
from appliance.bundle.known_digests import Known
from appliance.bundle.manifest import ListedFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.bundle.manifest import Manifest, PayloadFile
    from appliance.progress import Progress

#: Each thread that copies has up to three that hash; more of them would only need more memory.
_MOST_WORKERS: Final = 8
#: Blocks in memory, of all threads together: 64 MiB.
_BUFFERS: Final = 16
_MOST_BUFFERS: Final = 4  # of one thread: enough to keep its three others busy


class Store(Known, Protocol):
    """Where the bytes of the artefacts are kept (``appliance.sources.store.Store``)."""

    def path(self, sha256: str) -> Path:
        """The file with this digest."""


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
    for parent in sorted({file.path.rpartition("/")[0] for file in draft.payload()}):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    work = _Work(draft)
    workers = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    buffers = min(_BUFFERS // workers, _MOST_BUFFERS)

    def copy_some() -> None:
        copier = Copier(
            slice_size=slice_size, buffers=buffers, progress=progress, stop=work.stop, known=store
        )
        with copier:
            while (taken := work.take()) is not None:
                file, place = taken
                wanted = ListedFile(file.sha256, file.size)
                copied = copier.copy(store.path(file.sha256), f"{folder}/{file.path}", wanted)
                work.done(file, place, copied.slices, copied.blocks)
                progress.item(file.path)

    progress.begin("write", work.files, work.size)
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(copy_some) for _ in range(workers)]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            work.stop.set()
            pool.shutdown()
            progress.end()
    faults = [fault for future in futures if (fault := future.exception())]
    for fault in faults:
        if not isinstance(fault, Stopped):
            raise fault
    return _with_slices(draft, work.slices), bytes(work.index)


class _Work:
    """What there is to copy, and what was learnt of it; safe to use from several threads.

    ``index`` becomes ``blocks.bin``; ``slices`` are those of the cut files, by path.
    """

    def __init__(self, draft: Manifest) -> None:
        self.index = bytearray(blocks_size(draft))
        self.slices: dict[str, tuple[ListedFile, ...]] = {}
        self.files = sum(len(component.files) for component in draft.components.values())
        self.size = sum(file.size for file in draft.payload())
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._waiting = _by_length(draft)

    def take(self) -> tuple[PayloadFile, int] | None:
        """The next file, and the place of its digests in ``index``; None when there is no more."""
        with self._lock:
            return None if self.stop.is_set() else next(self._waiting, None)

    def done(self, file: PayloadFile, place: int, slices: tuple[ListedFile, ...], blocks: bytes) -> None:
        """Keep what was learnt of a file."""
        self.index[place : place + len(blocks)] = blocks
        if slices:
            self.slices[file.path] = slices


def _by_length(draft: Manifest) -> Iterator[tuple[PayloadFile, int]]:
    """Every payload file and the place of its digests in the block index, long files first."""
    long = [(file, place) for file, place in _placed(draft) if file.size > BLOCK_SIZE]
    long.sort(key=lambda each: (-each[0].size, each[1]))
    short = ((file, place) for file, place in _placed(draft) if file.size <= BLOCK_SIZE)
    return chain(long, short)


def _placed(draft: Manifest) -> Iterator[tuple[PayloadFile, int]]:
    place = 0
    for file in draft.payload():
        yield file, place
        place += DIGEST_SIZE * sum(block_count(part.size) for _, part in file.parts())


def _with_slices(draft: Manifest, slices: dict[str, tuple[ListedFile, ...]]) -> Manifest:
    """The manifest in which the cut files have these slices."""
    components = dict(draft.components)
    for name, component in draft.components.items():
        if any(file.path in slices for file in component.files):
            files = (replace(file, slices=slices.get(file.path, ())) for file in component.files)
            components[name] = replace(component, files=tuple(files))
    return replace(draft, components=components)
