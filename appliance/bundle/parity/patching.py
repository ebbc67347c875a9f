"""Mending a file in its place, piece by piece, where a medium has no room for a second one beside it.

Media are planned to be full.  So here the rule that a file is as it was, or mended, holds for its pieces
of 4 KiB: only those that are wrong are written, with what belongs there.  An interruption leaves the file
less damaged than it was, never more, and the next repair goes on (docs/decisions/0029).
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.parity.reading import read_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PIECE: Final = 4096
_CHUNK: Final = 1 << 20


def can_be_patched(target: Path, size: int, blocks: Sequence[bytes]) -> bool:
    """Whether a damaged file can be mended in its place, as far as that is known before it is computed.

    In one of another size than it should have, what is sound may lie elsewhere than where it belongs:
    writing there would destroy what par2 could still use.  But if all its whole blocks are right where
    they lie, it was only cut short, or has grown.

    Args:
        target: the file; need not be there.
        size: in bytes, that it should have.
        blocks: the digests of its blocks, as signed; empty if they are not known.
    """
    try:
        found = target.lstat().st_size
    except FileNotFoundError:
        return False
    if found == size:
        return True
    whole = [start for start in range(0, size, BLOCK_SIZE) if min(start + BLOCK_SIZE, size) <= found]
    if not blocks:
        return False
    with _opened(target, os.O_RDONLY) as fd:
        return all(
            (hashlib.sha256(data).digest(), lost) == (digest, 0)
            for start, digest in zip(whole, blocks, strict=False)
            for data, lost in [read_at(fd, start, min(BLOCK_SIZE, size - start))]
        )


def fits_in_place(source: Path, target: Path) -> bool:
    """Whether ``target`` can be mended in its place with ``source``, the right file.

    It can if it has the same size, or else is right to its end but for a last piece.
    """
    try:
        size, found = source.stat().st_size, target.lstat().st_size
    except FileNotFoundError:
        return False
    if found == size:
        return True
    end = min(found, size)
    end -= end % _PIECE if found < size else 0
    with _opened(source, os.O_RDONLY) as right, _opened(target, os.O_RDONLY) as fd:
        return all(
            read_at(fd, start, length) == (os.pread(right, length, start), 0)
            for start in range(0, end, _CHUNK)
            for length in [min(_CHUNK, end - start)]
        )


def patch_file(source: Path, target: Path) -> None:
    """Write what of ``target`` differs from ``source``, is missing, or cannot be read; cut off the rest."""
    with _opened(source, os.O_RDONLY) as right, _opened(target, os.O_RDWR) as fd:
        size = os.fstat(right).st_size
        for offset in range(0, size, _CHUNK):
            _patch(fd, offset, os.pread(right, _CHUNK, offset))
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _patch(fd: int, offset: int, wanted: bytes) -> None:
    if read_at(fd, offset, len(wanted)) == (wanted, 0):
        return
    for start in range(0, len(wanted), _PIECE):
        piece = wanted[start : start + _PIECE]
        if read_at(fd, offset + start, len(piece)) != (piece, 0):
            os.pwrite(fd, piece, offset + start)
