"""Mending a file in its place, piece by piece, where a medium has no room for a second one beside it.

Media are planned to be full.  So here the rule that a file is as it was, or mended, holds for its pieces
of 4 KiB: only those that are wrong are written, with what belongs there.  An interruption leaves the file
less damaged than it was, never more, and the next repair goes on (docs/decisions/0029).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.parity.reading import read_at

if TYPE_CHECKING:
    from pathlib import Path

_PIECE: Final = 4096
_CHUNK: Final = 1 << 20


def can_be_patched(target: Path, size: int) -> bool:
    """Whether a damaged file can be mended in its place.

    In one of another size than it should have, what is sound may lie elsewhere than where it belongs:
    writing there would destroy what par2 could still use.
    """
    try:
        return target.lstat().st_size == size
    except FileNotFoundError:
        return False


def patch_file(source: Path, target: Path) -> None:
    """Write what of ``target`` differs from ``source``, a file of the same size, or cannot be read."""
    right = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fd = os.open(target, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for offset in range(0, os.fstat(right).st_size, _CHUNK):
                _patch(fd, offset, os.pread(right, _CHUNK, offset))
        finally:
            os.close(fd)
    finally:
        os.close(right)


def _patch(fd: int, offset: int, wanted: bytes) -> None:
    if read_at(fd, offset, len(wanted)) == (wanted, 0):
        return
    for start in range(0, len(wanted), _PIECE):
        piece = wanted[start : start + _PIECE]
        if read_at(fd, offset + start, len(piece)) != (piece, 0):
            os.pwrite(fd, piece, offset + start)
