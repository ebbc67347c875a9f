"""From an archive to a sink: in order, from where it stopped, each record once where the sink allows it.

Only what is on the archive's disk is given on.  A cursor says how far the sink has come.  It is written
after the sink has what is before it; so after a cut some records are written again, as the very same bytes.
A file is cut back to where the cursor had it, and so has each once; over a connection they come twice, with
the same sequence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from appliance.bundle.durable import replace_file
from appliance.errors import ExportLogDamaged
from appliance.export.segments import Place, Segments
from appliance.export.sinks.lines import entries
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.export.archive import Archive
    from appliance.export.sinks.lines import Entry

#: Bytes that are given to a sink before the cursor is moved.
_BATCH: Final = 1 << 20
_MARK: Final = re.compile(r"[0-9]{1,20}:[0-9]{1,20}")
_MAX_CURSOR: Final = 1024


class Sink(Protocol):
    """Where entries go.  Both may raise OSError: then nothing is taken for written."""

    def write(self, data: bytes) -> None:
        """Take these bytes, which are whole entries."""

    def settle(self) -> str:
        """Wait until what was written is safe; a mark for the cursor, empty if there is none."""

    def resume(self, mark: str) -> None:
        """Go back to a mark."""


@dataclass
class Feed:
    """One sink of one archive.

    Args:
        archive: from where.
        sink: to where.
        render: how.
        cursor: the file that says how far.
    """

    archive: Archive
    sink: Sink
    render: Callable[[Entry], bytes]
    cursor: Path

    def __post_init__(self) -> None:
        self._log = Segments(self.archive.folder)
        #: What is before this in the archive was given to the sink.
        self.place = Place(0, 0)
        if self.cursor.exists():
            self.place, mark = _parse_cursor(self.cursor.read_bytes(), str(self.cursor))
            self.sink.resume(mark)
        else:
            self.sink.resume("")
            self._move(self.place)

    def close(self) -> None:
        self._log.close()

    def run(self) -> int:
        """Write what is new; says how many entries that was.

        Raises:
            OSError, ApplianceError: the sink took nothing more; what it has not taken comes again.
        """
        written, count, place = bytearray(), 0, self.place
        end = self.archive.synced
        if place >= end:
            return 0
        self._log.look()
        for frame in self._log.frames(self.place):
            place = frame.end
            for each in entries(frame, self.archive.sender.name):
                written += self.render(each)
                count += 1
            if len(written) >= _BATCH:
                self._give(bytes(written), place)
                written.clear()
            if place >= end:  # what follows may be half written just now
                break
        if place != self.place:
            self._give(bytes(written), place)
        return count

    def _give(self, data: bytes, place: Place) -> None:
        if data:
            self.sink.write(data)
        self._move(place)

    def _move(self, place: Place) -> None:
        mark = self.sink.settle()
        replace_file(
            self.cursor,
            canonical_bytes({"segment": place.segment, "offset": place.offset, "mark": mark}),
        )
        self.place = place


def _parse_cursor(data: bytes, where: str) -> tuple[Place, str]:
    try:
        top = Record(parse_canonical(data, limit=_MAX_CURSOR), where, ExportLogDamaged)
    except NotCanonicalError as fault:
        raise ExportLogDamaged(
            f"{where} is no cursor",
            found=str(fault),
            hint="remove it: then everything in the archive is written once more",
        ) from fault
    top.exactly(frozenset({"segment", "offset", "mark"}))
    mark = top.raw("mark")
    if not isinstance(mark, str) or (mark and not _MARK.fullmatch(mark)):
        top.refuse("mark is none")
    return Place(top.number("segment"), top.number("offset")), mark
