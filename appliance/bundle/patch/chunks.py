"""Where bytes of the base may lie: its content-defined chunks, by a digest that only screens.

Cut by FastCDC, as ``pyfastcdc`` does it (docs/decisions/0061).  The table is kept in two arrays, since a
terabyte has a million chunks: 32 MiB.  What it finds is a guess, and whoever asks compares the bytes.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final

from appliance.errors import DigestMismatch, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.bundle.patch.whole import WholeFile

    Hashed = Callable[[bytes | bytearray | memoryview], object]

#: Mean bytes of a chunk: of a terabyte, and of what is small.
_LARGEST: Final = 1 << 20
_SMALLEST: Final = 64 << 10
#: So many chunks are wanted of what lies between.
_CHUNKS: Final = 1 << 14
_READ: Final = 4 << 20
_FREE: Final = (1 << 64) - 1
_MASK: Final = (1 << 64) - 1


def mean_size(size: int) -> int:
    """The mean size of chunks for so many bytes: a power of two."""
    return min(_LARGEST, max(_SMALLEST, 1 << (size // _CHUNKS).bit_length()))


def chunk_count(size: int, files: int, mean: int) -> int:
    """How many chunks so many bytes in so many files are likely to have."""
    return size // mean + 16 * (files + 1)


def require_digest(file: WholeFile, found: str, wanted: str) -> None:
    """Refuse a base file that is not what its bundle says.

    Raises:
        DigestMismatch: it is not.
    """
    if found != wanted:
        raise DigestMismatch(
            f"{file.path} of the base is not what its bundle says",
            found=f"sha256 {found}",
            wanted=f"sha256 {wanted}",
            hint="obtain the base again: a patch against these bytes could not be applied anywhere",
        )


def cut(
    file: WholeFile, mean: int, start: int, end: int, hashed: Hashed | None = None
) -> Iterator[tuple[int, memoryview]]:
    """Position and bytes of each chunk; the bytes are valid until the next is asked for.

    Args:
        file: open.
        mean: mean bytes of a chunk.
        start: where in the file the first one begins.
        end: where the last one ends.
        hashed: told every byte, in order.

    Raises:
        ToolMissing: what cuts is there in its slow form only, a hundredth as fast.
        DigestMismatch: the file cannot be read.
    """
    from pyfastcdc import FastCDC

    if ".cy." not in FastCDC.__module__:
        raise ToolMissing(
            "pyfastcdc has no compiled part for this Python",
            found=FastCDC.__module__,
            wanted="a wheel of it for this Python and processor",
            hint="build patches on a station for which there is one",
        )
    cutter = FastCDC(mean, min_size=mean // 4, max_size=mean * 4)
    for chunk in cutter.cut_stream(_Stream(file, start, end, hashed)):
        yield start + chunk.offset, chunk.data


class _Stream:
    """A range of a file as the cutter reads it."""

    def __init__(self, file: WholeFile, start: int, end: int, hashed: Hashed | None) -> None:
        self._file, self._position, self._end, self._hashed = file, start, end, hashed

    def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), _READ, self._end - self._position)
        if count:
            self._file.read_into(self._position, buffer[:count])
            if self._hashed:
                self._hashed(buffer[:count])
        self._position += count
        return count


class Places:
    """Where chunks lie, by their keys; of several with the same key, the first.

    Args:
        expected: how many there will be; of more, room is made.
    """

    def __init__(self, expected: int) -> None:
        self._mask = (1 << (expected * 4 // 3).bit_length()) - 1
        self._keys = array("Q", [_FREE]) * (self._mask + 1)
        self._places = array("Q", [0]) * (self._mask + 1)
        self._count = 0

    def find(self, key: int) -> int | None:
        """The place of a chunk; None if there is none."""
        slot = key & self._mask
        while (found := self._keys[slot]) != _FREE:
            if found == key:
                return self._places[slot]
            slot = slot + 1 & self._mask
        return None

    def add(self, key: int, place: int) -> None:
        """Note a chunk."""
        if self._count * 4 > self._mask * 3:
            self._grow()
        slot = key & self._mask
        while (found := self._keys[slot]) != _FREE:
            if found == key:  # the first of its kind is as good
                return
            slot = slot + 1 & self._mask
        self._keys[slot], self._places[slot] = key, place
        self._count += 1

    def _grow(self) -> None:
        """Room for twice as many: the chunks of very odd files are all short."""
        keys, places = self._keys, self._places
        self._mask = self._mask << 1 | 1
        self._keys = array("Q", [_FREE]) * (self._mask + 1)
        self._places = array("Q", [0]) * (self._mask + 1)
        self._count = 0
        for key, place in zip(keys, places, strict=True):
            if key != _FREE:
                self.add(key, place)


class Chunks:
    """The chunks of some files.

    Args:
        files: open; their numbers are those of this sequence.
        mean: mean bytes of a chunk.
    """

    def __init__(self, files: Sequence[WholeFile], mean: int) -> None:
        self.files, self.mean = files, mean
        self._places = Places(chunk_count(sum(file.size for file in files), len(files), mean))

    def add(self, number: int, start: int, end: int, hashed: Hashed | None = None) -> None:
        """Cut a range of a file, and note its chunks; ``hashed`` is told every byte."""
        for offset, data in cut(self.files[number], self.mean, start, end, hashed):
            self._places.add(_key(data), number << 48 | offset)

    def find(self, data: memoryview) -> tuple[int, int] | None:
        """Number and position of a chunk that may be the same; None if there is none."""
        place = self._places.find(_key(data))
        return None if place is None else (place >> 48, place & (1 << 48) - 1)


def _key(data: memoryview) -> int:
    # Of this process alone, and as fast as cutting: equal keys are followed by a comparison.
    key = hash(bytes(data)) & _MASK
    return key if key != _FREE else 0
