"""From an archive to a sink: in order, from where it stopped, each record once where the sink allows it.

Only what is on the archive's disk is given on.  A cursor says how far the sink has come.  It is written
after the sink has what is before it; so after a cut some records are written again, as the very same bytes.
A file is cut back to where the cursor had it, and so has each once; over a connection they come twice, with
the same sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from appliance.export.block import BlockKind, parse_block
from appliance.export.segments import FrameKind, Place, Segments
from appliance.export.sinks.cursor import read_cursor, write_cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from appliance.export.archive import Archive
    from appliance.export.segments import Frame

#: How much of the archive is given to a sink at once, by ``weight``; after that the cursor is moved.
_BATCH: Final = 1 << 18
#: A file takes so much before: for its own disk is waited once then, and for the cursor's twice.
FILE_PIECE: Final = 4 << 20
#: A full block becomes a dozen times as many bytes of lines; one that says always the same, a thousand.
_DENSE: Final = 12
#: Bytes of a line beside its record, roughly.
_AROUND: Final = 128

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Sink(Protocol[T_contra]):
    """Where entries go, in the form that it wants; if it raises, nothing is taken for written."""

    def ready(self) -> bool:
        """Whether the last mark is of something else than what is written to next: a mark is wanted first.

        Raises as ``write`` would, if it is known already that it would: then nothing is made for it.
        """

    def write(self, found: Sequence[T_contra]) -> None:
        """Take these."""

    def settle(self) -> str:
        """Wait until what was written is safe; a mark for the cursor, empty if there is none."""

    def resume(self, mark: str) -> None:
        """Go back to a mark."""

    def close(self) -> None:
        """Give back what is held open."""


class Outlet(Protocol):
    """What brings an archive somewhere, as a receiver sees it."""

    @property
    def place(self) -> Place:
        """What is before this in the archive is there."""

    @property
    def cursor(self) -> Path:
        """The file that says so; its name is the sink's."""

    def run(self) -> int:
        """Give on one piece of what is due; says how many entries that was.  ``place`` moves with it.

        Raises:
            OSError, ApplianceError: nothing more is taken just now; what was not taken comes again.
        """

    def finish(self) -> int:
        """The same of what is not due yet, since nobody will come back soon."""

    def close(self) -> None:
        """Give back what is held open."""


def weight(frame: Frame) -> int:
    """Bytes of a frame, or a twelfth of those that its lines will have, whichever are more."""
    if frame.kind not in (FrameKind.BLOCK, FrameKind.FORK):
        return len(frame.data)
    header = parse_block(frame.data, kept=True).header
    records = header.records if header.kind is BlockKind.RECORDS else 1
    return max(len(frame.data), (header.raw_length + records * _AROUND) // _DENSE)


class Reading:
    """What is on the disk of an archive, beside whoever writes there."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive
        self._log = Segments(archive.folder)

    def frames(self, since: Place) -> Iterator[Frame]:
        """The frames from a place on that are on the disk."""
        end = self.archive.synced
        if since >= end:
            return
        self._log.sizes = self.archive.sizes
        for frame in self._log.frames(since):
            yield frame
            if frame.end >= end:  # what follows may be half written just now
                return

    def close(self) -> None:
        self._log.close()


@dataclass
class Feed(Generic[T]):
    """One sink of one archive.

    Args:
        archive: from where.
        sink: to where.
        render: what a sink wants of a frame, given it and the node's name.
        cursor: the file that says how far.
        piece: how much is given before the cursor is moved, by ``weight``; 0: what is given at once.
        target: where to, in a few words, if the cursor's name does not say it.
    """

    archive: Archive
    sink: Sink[T]
    render: Callable[[Frame, str], list[T]]
    cursor: Path
    piece: int = 0
    target: str = ""

    def __post_init__(self) -> None:
        self._reading = Reading(self.archive)
        self.place, self._mark = Place(0, 0), ""
        self._given: tuple[Place, str] | None = None
        self._ahead = False  # whether the sink may have what is behind the mark
        known = read_cursor(self.cursor, self.archive.synced, self.target)
        if known is not None:
            self.place, self._mark = known
        self.sink.resume(self._mark)
        if known is None:
            self._settle(self.place)

    def close(self) -> None:
        self._reading.close()
        self.sink.close()

    def run(self) -> int:
        self._remember()
        if self._ahead:  # it could not be taken back when that was due
            self._go_back()
        if self.sink.ready():
            self._settle(self.place)
        count, end = 0, self.place
        try:
            for rendered, place in self._batches():
                if rendered:
                    self._write(rendered, end)
                count, end = count + len(rendered), place
        except Exception:
            if self._ahead:
                self._go_back()
            raise
        if end != self.place:
            self._settle(end)
        return count

    def _batches(self) -> Iterator[tuple[list[T], Place]]:
        """What is given in one piece, some at a time so that little is held; and how far that is."""
        rendered: list[T] = []
        whole = size = 0
        for frame in self._reading.frames(self.place):
            rendered += self.render(frame, self.archive.sender.name)
            size += weight(frame)
            if size >= _BATCH:
                yield rendered, frame.end
                whole += size
                rendered, size = [], 0
                if whole >= self.piece:
                    return
        if size:
            yield rendered, frame.end

    def finish(self) -> int:
        return self.run()

    def _write(self, rendered: list[T], end: Place) -> None:
        """Give these, which stand behind ``end``."""
        if self.sink.ready():
            self._settle(end)
        self._ahead = True
        self.sink.write(rendered)

    def _go_back(self) -> None:
        """What came behind the mark comes again, and so must not be there."""
        self.sink.resume(self._mark)
        self._ahead = False

    def _settle(self, place: Place) -> None:
        try:
            mark = self.sink.settle()
        except Exception:
            self._go_back()
            raise
        self._given, self._ahead = (place, mark), False
        self._remember()

    def _remember(self) -> None:
        """Move the cursor to what the sink has; if the disk is full, later, and nothing is given twice."""
        if self._given is not None:
            write_cursor(self.cursor, *self._given, self.target)
            (self.place, self._mark), self._given = self._given, None
