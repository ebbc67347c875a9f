"""A long file read in pieces, each of which is read again from the medium whenever somebody asks for it.

The manifest of 200,000 files is 90 MB, too much to keep.  What is kept is where each piece ends, and the
state of the digest there: so a piece that is read again is known to be what was hashed with the whole, or
else is refused, at the cost of hashing it alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.list_kind import INDEX, Hashes
from appliance.bundle.plain_files import unreadable
from appliance.errors import BundleMalformed, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from appliance.bundle.list_kind import ListKind

#: Bytes of a piece, about.
PIECE: Final = 1 << 20


class Pieces:
    """The bytes of a file; a border lies only before a given mark, or at the end.

    Args:
        open_again: opens the file.
        path: for messages.
        borders: where each piece begins, and where the last one ends.
        states: the digests of all that comes before each border, SHA-256 first.
    """

    def __init__(
        self,
        open_again: Callable[[], AbstractContextManager[int]],
        path: str,
        borders: list[int],
        states: list[Hashes],
    ) -> None:
        self._open_again = open_again
        self._path = path
        self._borders = borders
        self._states = states
        self.digests = states[-1].hexdigests()
        self.sha256 = self.digests[0]
        self.size = borders[-1]

    def __len__(self) -> int:
        return len(self._borders) - 1

    def __getitem__(self, number: int) -> bytes:
        """One piece.

        Raises:
            DigestMismatch: it is not what it was, or cannot be read.
            FileMissing, FileUnexpected: nor is the file.
        """
        start, end = self._borders[number], self._borders[number + 1]
        hashes = self._states[number].copy()
        with self._open_again() as fd:
            data = _read(fd, self._path, start, end - start)
        hashes.update(data)
        if hashes.hexdigests() != self._states[number + 1].hexdigests():
            raise DigestMismatch(
                f"{self._path} was changed after it was read",
                hint="make the medium read-only and start again",
            )
        return data

    def __iter__(self) -> Iterator[bytes]:
        return map(self.__getitem__, range(len(self)))

    def join(self) -> bytes:
        """The file as a whole."""
        return b"".join(self)


def read_pieces(
    open_again: Callable[[], AbstractContextManager[int]],
    path: str,
    *,
    mark: bytes,
    limit: int,
    size: int = PIECE,
    kinds: Sequence[ListKind] = (INDEX,),
) -> Pieces:
    """Read a file to its end, and keep none of it.

    Args:
        open_again: opens the file, now and whenever a piece is asked for.
        path: for messages.
        mark: pieces begin with it, all but the first.
        limit: the most bytes the file may have.
        size: bytes of a piece, at most; more where no mark comes.
        kinds: the lists by whose digests it is hashed.

    Raises:
        BundleMalformed: it has more than ``limit`` bytes.
        DigestMismatch: it cannot be read.
        FileMissing, FileUnexpected: it is not there, or not a plain file.
    """
    borders, hashes, position = [0], Hashes.of(kinds), 0
    states = [hashes.copy()]
    with open_again() as fd:
        while data := _read(fd, path, position, max(size, len(mark))):
            if position + len(data) > limit:
                raise BundleMalformed(
                    f"{path} is too large",
                    found=f"more than {limit:,} bytes",
                    hint="obtain the bundle again",
                )
            border = data.rfind(mark, int(position == borders[-1]))
            # Without one, go on; but the last bytes may begin a mark, and are read again.
            end = border if border != -1 else max(1, len(data) - len(mark) + 1)
            hashes.update(data[:end])
            position += end
            if border != -1:
                borders.append(position)
                states.append(hashes.copy())
    if position > borders[-1] or position == 0:
        borders.append(position)
        states.append(hashes.copy())
    return Pieces(open_again, path, borders, states)


def _read(fd: int, path: str, start: int, size: int) -> bytes:
    """So many bytes from a place in an open file; fewer only at its end."""
    try:
        data = os.pread(fd, size, start)
        while 0 < len(data) < size and (more := os.pread(fd, size - len(data), start + len(data))):
            data += more
    except OSError as fault:
        raise unreadable(path, fault) from fault
    return data
