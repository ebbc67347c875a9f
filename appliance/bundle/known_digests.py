"""What was learnt of a long file in the store: the digests of its slices and 4 MiB blocks.

They are computed when a file comes into the store and kept beside it, so that a build hashes each byte
once: as a whole, from the copy in the bundle, compared with the lock.  They are never believed as such:

- They fit one file by digest and size, one slice size, and end with a digest of themselves.  Anything else
  is as if nothing were known, and the build computes everything.
- One block of each slice, chosen at random, is hashed again before a build uses them.
- Digests that were still wrong would stand in the signed list, where ``verify`` refuses the bundle: they
  can spoil a bundle, and never make wrong bytes right (docs/decisions/0039).

Written as: a line that says what this is, SHA-256 and size of the file, the slice size, the digests of the
slices (none if the file is not cut) and of the blocks, SHA-256 of all that.  Numbers are 8 bytes, the most
significant first.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.blocks import BLOCK_SIZE, DIGEST_SIZE, block_count
from appliance.bundle.manifest import SLICE_SIZE, ListedFile
from appliance.bundle.streams import Digests, Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TITLE: Final = b"appliance: digests of slices and blocks, 1\n"
_NUMBER: Final = 8  # bytes
_HEAD: Final = len(_TITLE) + DIGEST_SIZE + 2 * _NUMBER
_BUFFERS: Final = 4


class Known(Protocol):
    """Where this is kept, by the file's SHA-256 (``appliance.sources.store.Store``)."""

    def known(self, sha256: str) -> bytes | None:
        """What was kept; None if nothing was, or it cannot be read."""

    def keep_known(self, sha256: str, data: bytes) -> None:
        """Keep it, if that is possible: nothing is lost without it."""


def is_worth_keeping(size: int) -> bool:
    """Whether a file has other digests than its own: one of a single block has not."""
    return size > BLOCK_SIZE


def known_bytes(digests: Digests, size: int, slice_size: int = SLICE_SIZE) -> bytes:
    """What is to be kept of a file of ``size`` bytes, cut into slices of ``slice_size``."""
    head = b"".join(
        [_TITLE, bytes.fromhex(digests.whole), _number(size), _number(slice_size)],
    )
    body = head + b"".join(bytes.fromhex(part.sha256) for part in digests.slices) + digests.blocks
    return body + hashlib.sha256(body).digest()


def parse_known(data: bytes, wanted: ListedFile, slice_size: int) -> Digests | None:
    """The digests of this file, cut like this; None if ``data`` is damaged or is about something else."""
    body, seal = data[:-DIGEST_SIZE], data[-DIGEST_SIZE:]
    head = b"".join([_TITLE, bytes.fromhex(wanted.sha256), _number(wanted.size), _number(slice_size)])
    sizes = _slice_sizes(wanted.size, slice_size)
    blocks_at = _HEAD + DIGEST_SIZE * len(sizes)
    parts = sizes or [wanted.size]
    length = blocks_at + DIGEST_SIZE * sum(map(block_count, parts))
    if len(body) != length or body[:_HEAD] != head or hashlib.sha256(body).digest() != seal:
        return None
    slices = (body[start : start + DIGEST_SIZE] for start in range(_HEAD, blocks_at, DIGEST_SIZE))
    return Digests(
        wanted.sha256,
        tuple(ListedFile(digest.hex(), part) for digest, part in zip(slices, sizes, strict=True)),
        body[blocks_at:],
    )


def read_known(store: Known, fd: int, wanted: ListedFile, slice_size: int) -> Digests | None:
    """What is kept of a file, if it fits, and agrees with one block of each slice.

    Args:
        store: where it is kept.
        fd: the file itself.
        wanted: its digest and size in bytes.
        slice_size: bytes, as the bundle will be cut.
    """
    data = store.known(wanted.sha256)
    digests = None if data is None else parse_known(data, wanted, slice_size)
    return digests if digests and _agrees(fd, digests.blocks, wanted.size, slice_size) else None


def digests_of(
    fd: int, size: int, slice_size: int = SLICE_SIZE, *, before: Callable[[int], None] = lambda _: None
) -> Digests:
    """Read a file from its beginning and compute all its digests, side by side.

    Args:
        fd: the file, open for reading.
        size: how many bytes of it.
        slice_size: bytes; longer files are cut.
        before: called with the bytes of each block before it is read; what it raises ends the work.

    Raises:
        EOFError: the file is shorter.
    """
    sizes = _slice_sizes(size, slice_size)
    streams = Streams(_BUFFERS)
    try:
        position = 0
        for part in sizes or [size]:
            streams.begin_slice()
            end = position + part
            while position < end:
                block = streams.buffer(min(BLOCK_SIZE, end - position))
                before(len(block))
                _fill(fd, block, position)
                streams.add(block)
                position += len(block)
        digests = streams.finish()
    finally:
        streams.close()
    return digests if sizes else Digests(digests.whole, (), digests.blocks)


def _agrees(fd: int, blocks: bytes, size: int, slice_size: int) -> bool:
    """Whether one block of each slice, nobody knows beforehand which, has its digest."""
    first = 0
    for start in range(0, size, slice_size):
        part = min(slice_size, size - start)
        count = block_count(part)
        number = secrets.randbelow(count)
        offset = number * BLOCK_SIZE
        data = os.pread(fd, min(BLOCK_SIZE, part - offset), start + offset)
        place = DIGEST_SIZE * (first + number)
        if hashlib.sha256(data).digest() != blocks[place : place + DIGEST_SIZE]:
            return False
        first += count
    return True


def _slice_sizes(size: int, slice_size: int) -> Sequence[int]:
    """The sizes of the slices in bytes; none if the file is not cut."""
    if size <= slice_size:
        return []
    return [min(slice_size, size - start) for start in range(0, size, slice_size)]


def _fill(fd: int, block: memoryview, offset: int) -> None:
    done = 0
    while done < len(block):
        count = os.preadv(fd, [block[done:]], offset + done)
        if not count:
            raise EOFError("a file became shorter while it was read")
        done += count


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER, "big")
