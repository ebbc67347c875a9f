"""Blocks of a drive, read from it rather than from memory, and told as digests: what they hold stays there.

Each digest is keyed (HMAC-SHA256, RFC 2104) with a key that is made for one comparison, so that nobody can
look up what a block held that many drives hold.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What stands for a block that holds one byte over and over, as zeros where nothing was written.
BLANK = "blank"
#: What stands before the reason why a block could not be read.
UNREADABLE = "unreadable: "


def sample(path: str, places: Sequence[int], length: int, key: bytes) -> list[str]:
    """What lies at some places of a block device.

    Args:
        path: the device node, or a file.
        places: offsets in bytes, multiples of the device's block size.
        length: bytes at each place, likewise.
        key: of the digests.

    Returns:
        For each place its digest in hexadecimal, ``BLANK``, or ``UNREADABLE`` and why.

    Raises:
        OSError: the device cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    try:
        with mmap.mmap(-1, length) as buffer:  # O_DIRECT wants memory at the beginning of a page
            return [_read(descriptor, place, buffer, key) for place in places]
    finally:
        os.close(descriptor)


def _read(descriptor: int, place: int, buffer: mmap.mmap, key: bytes) -> str:
    try:
        count = os.preadv(descriptor, [buffer], place)
    except OSError as fault:
        return UNREADABLE + (fault.strerror or str(fault))
    if count != len(buffer):
        return UNREADABLE + "beyond its end"
    return told(bytes(buffer), key)


def told(data: bytes, key: bytes) -> str:
    """What is told of a block: its digest, or ``BLANK``."""
    if data == data[:1] * len(data):
        return BLANK
    return hmac.new(key, data, hashlib.sha256).hexdigest()
