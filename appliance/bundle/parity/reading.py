"""Reading what a failing medium still gives: unreadable sectors become zeros, and are counted."""

from __future__ import annotations

import os
from typing import Final

_SECTOR: Final = 4096


def read_at(fd: int, offset: int, size: int) -> tuple[bytes, int]:
    """Up to ``size`` bytes at ``offset``, fewer at the end of the file; and how many are unreadable.

    Where reading fails, it is tried again in pieces of 4 KiB; what remains unreadable is zeros.
    """
    try:
        return _pread(fd, offset, size), 0
    except OSError:
        pass
    end = min(offset + size, os.fstat(fd).st_size)
    pieces, lost = [], 0
    while offset < end:
        step = min(_SECTOR - offset % _SECTOR, end - offset)
        try:
            pieces.append(_pread(fd, offset, step))
        except OSError:
            pieces.append(bytes(step))
            lost += step
        offset += step
    return b"".join(pieces), lost


def _pread(fd: int, offset: int, size: int) -> bytes:
    pieces = []
    while size and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        offset += len(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
