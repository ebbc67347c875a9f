"""A file read once, hashed while it is read, and kept in compressed pieces.

The manifest of 200,000 files is 90 MB of text that repeats itself: compressed it is 15, and one piece
at a time is unpacked when somebody asks.  What was hashed is what is unpacked later: the medium is not
asked twice.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from typing import TYPE_CHECKING, Final

from appliance.bundle.tree import unreadable
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of a piece, about.
PIECE: Final = 1 << 20
_LEVEL: Final = 1  # as quick as it gets; more would save little


class Pieces:
    """The bytes of a file; a border lies only before a given mark, or at the end.

    Args:
        sha256: lower-case hex, of all bytes.
        size: of all bytes.
    """

    def __init__(self, packed: list[bytes], sha256: str, size: int) -> None:
        self._packed = packed
        self.sha256 = sha256
        self.size = size

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, number: int) -> bytes:
        return zlib.decompress(self._packed[number])

    def __iter__(self) -> Iterator[bytes]:
        return map(zlib.decompress, self._packed)

    def join(self) -> bytes:
        """The file as a whole."""
        return b"".join(self)


def read_pieces(fd: int, path: str, *, mark: bytes, limit: int, size: int = PIECE) -> Pieces:
    """Read an open file to its end.

    Args:
        fd: where to read.
        path: for messages.
        mark: pieces begin with it, all but the first.
        limit: the most bytes the file may have.
        size: bytes of a piece, at least; more where no mark comes.

    Raises:
        BundleMalformed: it has more than ``limit`` bytes.
        DigestMismatch: it cannot be read.
    """
    try:
        return _pack(lambda: os.read(fd, size), path, mark, limit)
    except OSError as fault:
        raise unreadable(path, fault) from fault


def _pack(read: Callable[[], bytes], path: str, mark: bytes, limit: int) -> Pieces:
    packed: list[bytes] = []
    digest = hashlib.sha256()
    rest, size = bytearray(), 0
    while data := read():
        digest.update(data)
        size += len(data)
        if size > limit:
            raise BundleMalformed(
                f"{path} is too large", found=f"more than {limit:,} bytes", hint="obtain the bundle again"
            )
        searched = max(1, len(rest) - len(mark) + 1)  # up to here it was looked for before
        rest += data
        if (border := rest.rfind(mark, searched)) != -1:
            packed.append(zlib.compress(rest[:border], _LEVEL))
            del rest[:border]
    packed.append(zlib.compress(rest, _LEVEL))
    return Pieces(packed, digest.hexdigest(), size)
