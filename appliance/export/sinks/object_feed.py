"""From an archive to an object store: in pieces that are settled before they leave.

Objects cannot grow, and one for every block would be too many; so records wait until there are many, or for
some seconds.  Where a piece ends is written down before its first object is put.  Whoever was cut off in
between goes on with the same piece, and so puts the same bytes under the same names, which a store that has
them already does not take a second time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from appliance.errors import ExportLogDamaged
from appliance.export.segments import Place
from appliance.export.sinks.cursor import read_cursor, write_cursor
from appliance.export.sinks.feed import Reading, weight
from appliance.export.sinks.objects import log_objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.export.archive import Archive
    from appliance.export.segments import Frame
    from appliance.export.sinks.objects import LogObject

#: How much of the archive is in one piece, by ``weight``; as lines six times as many bytes, mostly.
_PIECE: Final = 1 << 20


class ObjectStore(Protocol):
    """Where objects are put."""

    def ready(self) -> None:
        """Raise as ``put`` would, if it is known already that it would."""

    def put(self, found: LogObject) -> None:
        """Put this there, or find it there already; it is there, and locked, when this returns.

        Raises:
            ExportSinkUnready: it is not.
        """

    def close(self) -> None:
        """Give back what is held open."""


@dataclass
class ObjectFeed:
    """The objects of one archive.

    Args:
        archive: from where.
        store: to where.
        prefix: before each name.
        cursor: the file that says how far.
        every: seconds that a record waits for others at most.
        clock: seconds that never go back.
        target: where to, in a few words.
    """

    archive: Archive
    store: ObjectStore
    prefix: str
    cursor: Path
    every: float
    clock: Callable[[], float] = time.monotonic
    target: str = ""

    def __post_init__(self) -> None:
        self._reading = Reading(self.archive)
        self.place = Place(0, 0)
        self._settled: Place | None = None
        self._since: float | None = None
        self._more = False
        if (known := read_cursor(self.cursor, self.archive.synced, self.target)) is None:
            write_cursor(self.cursor, self.place, "", self.target)
            return
        self.place, mark = known
        if mark:
            segment, _, offset = mark.partition(":")
            self._settled = Place(int(segment), int(offset))

    def close(self) -> None:
        self._reading.close()
        self.store.close()

    def run(self) -> int:
        return self._give(all_of_it=False)

    def finish(self) -> int:
        return self._give(all_of_it=True)

    def _give(self, *, all_of_it: bool) -> int:
        self.store.ready()
        count = 0
        if frames := self._piece(all_of_it=all_of_it):
            for each in log_objects(frames, self.archive.sender.name, self.prefix):
                self.store.put(each)
                count += each.entries
            write_cursor(self.cursor, frames[-1].end, "", self.target)
            self.place, self._settled = frames[-1].end, None
            if not self._more:  # what is behind a full piece has waited as long as it did
                self._since = None
            self._more = False
        return count

    def _piece(self, *, all_of_it: bool) -> list[Frame]:
        """The frames that leave together, whose end is written down; none while more may come."""
        if self._settled is None and not self._is_due(all_of_it=all_of_it):
            return []
        found: list[Frame] = []
        size = 0
        for frame in self._reading.frames(self.place):
            found.append(frame)
            size += weight(frame)
            if frame.end == self._settled or (self._settled is None and size >= _PIECE):
                break
        if self._settled is None:
            if found:
                end = found[-1].end
                # First on the disk: nothing leaves in a piece that nobody would remember.
                write_cursor(self.cursor, self.place, f"{end.segment}:{end.offset}", self.target)
                self._settled, self._more = end, size >= _PIECE
        elif not found or found[-1].end != self._settled:
            raise ExportLogDamaged(
                f"{self.cursor} names a place that the archive does not have",
                found=f"segment {self._settled.segment}, byte {self._settled.offset:,}",
                hint="was the archive put back from an old copy? Remove the cursor: then all of it is put"
                " once more, in other pieces",
            )
        return found

    def _is_due(self, *, all_of_it: bool) -> bool:
        waiting = self.archive.synced > self.place
        if not waiting or all_of_it:
            return waiting
        if self._since is None:
            self._since = self.clock()
        return self.archive.behind(self.place) >= _PIECE or self.clock() - self._since >= self.every
