"""A log on disk: frames in numbered files, appended, whole after any power cut up to the last ``sync``.

The spool of a sender, the archive of a receiver and a medium of blocks are all this.  A folder holds
segments ``0000000001.seg``, ``0000000002.seg`` …; each begins with ``AXSEG``, a byte 1 and two zeros, and
is a sequence of frames: kind (1 byte), length (4), CRC-32 of kind, length and contents (4), contents; all
in network byte order.  Frames of a kind that a reader does not know are passed over.

Nothing is ever changed but at the end of the last segment.  A segment is on the disk before the next one
gets its name, so only the last may be torn: what follows its last whole frame is cut off when it is opened.
Each segment begins with a frame of the owner's (``opening``), so that the last one alone tells its state.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from appliance.errors import ExportLogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"AXSEG\x01\0\0"
MAX_FRAME: Final = 8 << 20
_FRAME: Final = struct.Struct(">BII")
_NAME: Final = re.compile(r"([0-9]{10})\.seg")
_READ_AHEAD: Final = 512 << 10


class FrameKind(IntEnum):
    """What a frame holds."""

    BLOCK = 1
    CHECKPOINT = 2
    STATE = 3
    FORK = 4  #: a block of another history, as a receiver judged it
    POSITIONS = 5  #: in a spool: where the sources are once the block behind it is kept


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a frame begins."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, where it begins, and where the next one will."""

    kind: int
    data: bytes
    place: Place
    end: Place


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:010}.seg"


class Segments:
    """The segments of an existing folder, to be read; whoever writes there may go on meanwhile.

    ``sizes`` are the bytes of each segment, by number; reading ends there.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._dir = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.sizes: dict[int, int] = {}
        self.look()

    def look(self) -> None:
        """See how long the segments are now."""
        names = os.listdir(self._dir)  # noqa: PTH208 - of the open folder
        found = sorted(int(each[1]) for each in map(_NAME.fullmatch, names) if each)
        self.sizes = {number: self._size(number) for number in found}

    def _size(self, number: int) -> int:
        fd = self._open(number, os.O_RDONLY)
        try:
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _open(self, number: int, flags: int) -> int:
        return os.open(segment_name(number), flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._dir)

    def close(self) -> None:
        os.close(self._dir)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self.sizes.values())

    @property
    def end(self) -> Place:
        """Where the next frame will begin, unless a segment begins before it."""
        last = max(self.sizes, default=0)
        return Place(last, self.sizes.get(last, 0))

    def whole(self, number: int) -> int:
        """How many bytes of a segment are whole frames; 0 if not even its first one is."""
        end = 0
        with contextlib.suppress(ExportLogDamaged):
            for frame in self._frames(Place(number, 0)):
                end = frame.end.offset
        return end

    def frames(self, since: Place | None = None) -> Iterator[Frame]:
        """The frames from a place on, to the end as it is when it is reached.

        Raises:
            ExportLogDamaged: something before the end is not what was written.
        """
        place = since or Place(0, 0)
        while True:
            for frame in self._frames(place):
                yield frame
                place = frame.end
            later = [number for number in self.sizes if number > place.segment]
            if not later:
                return
            place = Place(min(later), 0)

    def segment(self, number: int) -> Iterator[Frame]:
        """The frames of one segment; raises as ``frames`` does."""
        return self._frames(Place(number, 0))

    def _frames(self, place: Place) -> Iterator[Frame]:
        """The frames of one segment from an offset on."""
        if place.segment not in self.sizes:
            return
        fd = self._open(place.segment, os.O_RDONLY)
        try:
            offset = place.offset or self._after_magic(fd, place.segment)
            buffer, start = b"", offset
            while offset < self.sizes.get(place.segment, 0):
                size = _FRAME.size
                if offset - start + size <= len(buffer):
                    size += _FRAME.unpack_from(buffer, offset - start)[1]
                if size > MAX_FRAME + _FRAME.size:
                    raise self._damaged(place.segment, offset)
                if offset - start + size > len(buffer):
                    wanted = max(size, _READ_AHEAD)
                    buffer, start = os.pread(fd, wanted, offset), offset
                    if len(buffer) < size:
                        raise self._damaged(place.segment, offset)
                    continue
                kind, length, crc = _FRAME.unpack_from(buffer, offset - start)
                begin = offset - start + _FRAME.size
                data = buffer[begin : begin + length]
                if crc != _crc(kind, data):
                    raise self._damaged(place.segment, offset)
                end = offset + _FRAME.size + length
                yield Frame(kind, data, Place(place.segment, offset), Place(place.segment, end))
                offset = end
        finally:
            os.close(fd)

    def _after_magic(self, fd: int, number: int) -> int:
        if os.pread(fd, len(MAGIC), 0) != MAGIC:
            raise self._damaged(number, 0)
        return len(MAGIC)

    def _damaged(self, number: int, offset: int) -> ExportLogDamaged:
        return ExportLogDamaged(
            f"{self._folder}/{segment_name(number)} is damaged",
            found=f"no whole frame at byte {offset:,}",
            hint="put the file back from a copy, or let the receiver's gaps be filled from another one",
        )


def frame_bytes(kind: int, data: bytes) -> bytes:
    """A frame as it lies on the disk."""
    return frame_header(kind, data) + data


def frame_header(kind: int, data: bytes) -> bytes:
    """What stands before the contents of a frame."""
    return _FRAME.pack(kind, len(data), _crc(kind, data))


def _crc(kind: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(struct.pack(">BI", kind, len(data))))
