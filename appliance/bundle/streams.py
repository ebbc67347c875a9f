"""The digests of one file in all the ways a bundle names it: as a whole, by slice, by block.

These are three hashes over the same bytes, so they run in three threads, each taking the blocks in
order, while the next block is read; ``hashlib`` releases the interpreter's lock.  What starts at the
same byte has the same state: a file's first slice is not hashed apart from the file, nor a slice's
first block apart from the slice.  Where slices and blocks are known already, only the whole is hashed.

Memory: a fixed number of buffers of one block, each in use until all three have seen it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.manifest import ListedFile

if TYPE_CHECKING:
    from concurrent.futures import Future
    from hashlib import _Hash

_WHOLE, _SLICE, _BLOCK = range(3)
_EMPTY: Final = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True)
class Digests:
    """Of one file: SHA-256 (hex) of the whole, its slices, and the joined digests of all blocks."""

    whole: str
    slices: tuple[ListedFile, ...]
    blocks: bytes


@dataclass(frozen=True, slots=True)
class _Hashing:
    """One block that is being hashed: each future gives a digest up to and with this block."""

    data: memoryview
    slice_number: int
    whole: Future[bytes]
    part: Future[bytes]
    block: Future[bytes]


class Streams:
    """Hashes one file after another: ``begin``, then for each slice its blocks, then ``finish``.

    Args:
        buffers: how many blocks are kept in memory, at least one.
    """

    def __init__(self, buffers: int) -> None:
        self._most = buffers
        self._free: list[memoryview] = []
        self._pool = [ThreadPoolExecutor(1) for _ in range(3)]
        self._hashing: deque[_Hashing] = deque()
        self.begin()

    def close(self) -> None:
        """End the threads; what is not hashed yet is given up."""
        for lane in self._pool:
            lane.shutdown(cancel_futures=True)

    def begin(self, known: Digests | None = None) -> None:
        """Another file comes next; ``known`` is what need not be computed of it: all but the whole."""
        self._known = known
        self._whole = self._part = hashlib.sha256()
        self._whole_digest = _EMPTY
        self._slices: list[tuple[bytes, int]] = []
        self._blocks = bytearray()
        self._at_start = True

    def begin_slice(self) -> None:
        """The next block is the first of a slice; of the only one, if the file is not cut."""
        if self._slices:
            self._part = hashlib.sha256()
        self._slices.append((_EMPTY, 0))
        self._at_start = True

    def buffer(self, size: int) -> memoryview:
        """A buffer of ``size`` bytes, at most a block; waits until one is free."""
        if len(self._hashing) == self._most:
            self._collect()
        whole = self._free.pop() if self._free else memoryview(bytearray(BLOCK_SIZE))
        return whole[:size]

    def add(self, block: memoryview) -> None:
        """Hash the next block, which ``buffer`` gave."""
        whole = self._feed(_WHOLE, self._whole, block)
        same = self._known or self._part is self._whole
        part = whole if same else self._feed(_SLICE, self._part, block)
        alone = part if self._known or self._at_start else self._feed(_BLOCK, hashlib.sha256(), block)
        self._at_start = False
        self._hashing.append(_Hashing(block, len(self._slices) - 1, whole, part, alone))

    def finish(self) -> Digests:
        """Wait for what is not hashed yet; the digests of the file."""
        while self._hashing:
            self._collect()
        if self._known:
            return replace(self._known, whole=self._whole_digest.hex())
        slices = tuple(ListedFile(digest.hex(), size) for digest, size in self._slices)
        return Digests(self._whole_digest.hex(), slices, bytes(self._blocks))

    def _feed(self, lane: int, digest: _Hash, block: memoryview) -> Future[bytes]:
        return self._pool[lane].submit(_update, digest, block)

    def _collect(self) -> None:
        """Wait for the oldest block; its buffer is free then."""
        oldest = self._hashing.popleft()
        self._blocks += oldest.block.result()
        size = self._slices[oldest.slice_number][1] + len(oldest.data)
        self._slices[oldest.slice_number] = (oldest.part.result(), size)
        self._whole_digest = oldest.whole.result()
        self._free.append(memoryview(oldest.data.obj))


def _update(digest: _Hash, block: memoryview) -> bytes:
    """The digest up to and with this block."""
    digest.update(block)
    return digest.digest()
