"""Examining one file on a medium: read past the page cache, compared, and its bad blocks found.

A file is hashed whole, as it is signed.  Only one that is wrong is read a second time, block by block,
to say where; a block that cannot be read does not keep the others from being read.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from appliance.bundle.blocks import BLOCK_SIZE, block_count
from appliance.bundle.media.checked import MISSING, UNREADABLE, BadBlocks, DamagedFile
from appliance.bundle.media.readback import uncached
from appliance.errors import DigestMismatch, FileMissing, FileUnexpected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.media.readback import BlockReader
    from appliance.bundle.volume import Volume
    from appliance.progress import Progress


def examine(
    volume: Volume, path: str, wanted: ListedFile, reader: BlockReader, progress: Progress
) -> DamagedFile | None:
    """Read a file of a volume to its end and compare; None if it is what was signed."""
    try:
        with volume.tree.open(path) as fd, uncached(fd) as direct:
            problem = _compare(direct, wanted, reader, progress)
    except FileMissing:
        problem = MISSING
    except FileUnexpected as fault:
        problem = f"not a plain file: {fault.found}"
    except DigestMismatch as fault:
        problem = f"{UNREADABLE}: {fault.found}"
    except OSError as fault:
        problem = f"{UNREADABLE}: {fault.strerror}"
    progress.item(path)
    return DamagedFile(path, problem) if problem else None


def _compare(fd: int, wanted: ListedFile, reader: BlockReader, progress: Progress) -> str | None:
    """What is wrong with an open file."""
    size = os.fstat(fd).st_size
    if size != wanted.size:
        return f"{size:,} bytes instead of {wanted.size:,}"
    digest = hashlib.sha256()
    for _, block in reader.blocks(fd, range(block_count(size))):
        digest.update(block)
        progress.advance(len(block))
    return None if digest.hexdigest() == wanted.sha256 else "other bytes than were signed"


def bad_blocks(
    volume: Volume, path: str, size: int, digests: Sequence[bytes], reader: BlockReader
) -> tuple[BadBlocks, ...]:
    """Where a file is wrong.

    Args:
        volume: the volume it lies on.
        path: its path there.
        size: how many bytes it should have.
        digests: of its blocks, as signed; of a file without (root files, parity) only the blocks that
            cannot be read are found.
        reader: reads blocks; this thread's.
    """
    try:
        with volume.tree.open(path) as fd, uncached(fd) as direct:
            return tuple(_in_rows(_judge(direct, size, digests, reader)))
    except (FileMissing, FileUnexpected, DigestMismatch, OSError):
        return ()  # nothing can be read of it at all


def _judge(fd: int, size: int, digests: Sequence[bytes], reader: BlockReader) -> Iterator[tuple[int, bool]]:
    """The numbers of the bad blocks, each with whether it can be read."""
    for number in range(block_count(size)):
        try:
            [(_, block)] = reader.blocks(fd, [number])
        except OSError:
            yield number, False
            continue
        short = len(block) < min(BLOCK_SIZE, size - number * BLOCK_SIZE)
        if short or (digests and hashlib.sha256(block).digest() != digests[number]):
            yield number, True


def _in_rows(bad: Iterator[tuple[int, bool]]) -> Iterator[BadBlocks]:
    row: BadBlocks | None = None
    for number, readable in bad:
        if row and row.last == number - 1 and row.readable == readable:
            row = BadBlocks(row.first, number, readable)
            continue
        if row:
            yield row
        row = BadBlocks(number, number, readable)
    if row:
        yield row
