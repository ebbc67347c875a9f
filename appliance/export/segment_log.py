"""Writing a log of segments: appended, synced, cut off where it was torn, bounded from its beginning."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from appliance.errors import InProgress, SpaceExhausted
from appliance.export.segments import (
    MAGIC,
    FrameKind,
    Place,
    Segments,
    frame_bytes,
    frame_header,
    segment_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT_SEGMENT: Final = 32 << 20
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class SegmentLog(Segments):
    """The segments of a folder, held by the one process that writes there.

    Args:
        folder: an existing folder.
        opening: what each new segment begins with.
        segment: bytes after which a new segment begins.

    Raises:
        InProgress: another process writes there.
    """

    def __init__(
        self, folder: str, opening: Callable[[], bytes] = bytes, *, segment: int = DEFAULT_SEGMENT
    ) -> None:
        super().__init__(folder)
        self._opening = opening
        self._limit = segment
        self._fd = -1
        try:
            self._hold()
            self._settle()
        except BaseException:
            self.close()
            raise

    def _hold(self) -> None:
        try:
            fcntl.flock(self._dir, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise InProgress(
                f"another process writes to {self._folder}", hint="wait until it ends, or end it"
            ) from fault

    def _settle(self) -> None:
        """Cut off what was not whole when the power went, and go on at the end."""
        while self.sizes:
            last = max(self.sizes)
            if whole := self.whole(last):
                self._fd = self._open(last, os.O_RDWR | os.O_APPEND)
                if whole < self.sizes[last]:
                    os.ftruncate(self._fd, whole)
                    self.sizes[last] = whole
                # Who was killed, and not cut off, left bytes that can be read and are not on the disk.
                os.fdatasync(self._fd)
                os.fsync(self._dir)
                return
            os.unlink(segment_name(last), dir_fd=self._dir)
            del self.sizes[last]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        super().close()

    def append(self, frames: Sequence[tuple[int, bytes]]) -> list[Place]:
        """Put frames at the end, all or none; they are on the disk after ``sync``.  Says where each is.

        Raises:
            SpaceExhausted: the disk is full; the log is as it was.
        """
        if self._fd < 0 or self.sizes[max(self.sizes)] >= self._limit:
            self._begin()
        last = max(self.sizes)
        before, places = self.sizes[last], []
        pieces: list[bytes] = []
        offset = before
        for kind, data in frames:
            places.append(Place(last, offset))
            pieces += (frame_header(kind, data), data)
            offset += len(pieces[-2]) + len(data)
        try:
            _write_all(self._fd, b"".join(pieces))
        except OSError as fault:
            os.ftruncate(self._fd, before)
            raise _explained(fault, self._folder) from fault
        self.sizes[last] = offset
        return places

    def _begin(self) -> None:
        """Begin a segment; the one before is on the disk, so that only the last may be torn."""
        number = max(self.sizes, default=0) + 1
        if self._fd >= 0:
            self.sync()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        data = MAGIC + frame_bytes(FrameKind.STATE, self._opening())
        fd = -1
        try:
            fd = os.open(segment_name(number), flags, 0o600, dir_fd=self._dir)
            _write_all(fd, data)
            os.fsync(fd)
            os.fsync(self._dir)
        except OSError as fault:
            if fd >= 0:
                os.close(fd)
                os.unlink(segment_name(number), dir_fd=self._dir)
            raise _explained(fault, self._folder) from fault
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        self.sizes[number] = len(data)

    def sync(self) -> None:
        """Wait until everything appended is on the disk."""
        if self._fd >= 0:
            os.fdatasync(self._fd)

    def remove_oldest(self) -> int:
        """Remove the oldest segment, never the last one; says how many bytes that frees."""
        oldest = min(self.sizes)
        if oldest == max(self.sizes):
            raise ValueError("the last segment stays")
        os.unlink(segment_name(oldest), dir_fd=self._dir)
        return self.sizes.pop(oldest)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _explained(fault: OSError, folder: str) -> Exception:
    if fault.errno not in _FULL:
        return fault
    return SpaceExhausted(
        f"the disk under {folder} is full",
        found=fault.strerror,
        hint="free some space, or give it less to keep",
    )
