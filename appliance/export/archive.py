"""What a receiver has of one node, on its disk: every block and checkpoint that was believed, with proof.

A log of segments.  It is all there is: the ledger follows from it, sinks are fed from it, and ``check``
reads it years later.  What arrived is on the disk before the ledger has it; if the disk is full it is given
back, and stays missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.errors import ExportLogDamaged
from appliance.export.block import parse_block
from appliance.export.checkpoint import read_checkpoint
from appliance.export.gap_history import Change, Look, alarms, changes, look_at, without
from appliance.export.ledger import Ledger, Standing
from appliance.export.ledger_state import ledger_bytes, parse_ledger
from appliance.export.reception import enter
from appliance.export.refusal import RefusedError, Why
from appliance.export.segment_log import DEFAULT_SEGMENT, SegmentLog
from appliance.export.segments import Frame, FrameKind, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.export.identity import Sender
    from appliance.export.reception import Arrival

_BLOCKS = frozenset({FrameKind.BLOCK, FrameKind.FORK})


class Archive:
    """The archive of one node, in an existing folder.

    Raises:
        ExportLogDamaged: the last segment is not what was written.
        InProgress: another process writes there.
    """

    def __init__(self, folder: str, sender: Sender, *, segment: int = DEFAULT_SEGMENT) -> None:
        self.sender = sender
        self.ledger = Ledger()
        self._told = self._seen = self._news = Look()
        self.folder = folder
        self._log = SegmentLog(folder, lambda: ledger_bytes(self.ledger, self._told), segment=segment)
        try:
            for frame in self._log.frames(Place(max(self._log.sizes, default=0), 0)):
                self._recall(frame)
        except BaseException:
            self._log.close()
            raise
        #: What is before this is on the disk.
        self.synced = self._log.end

    def _recall(self, frame: Frame) -> None:
        try:
            if frame.kind == FrameKind.STATE:
                self.ledger, self._told = parse_ledger(frame.data)
            elif frame.kind in _BLOCKS:
                enter(self.ledger, parse_block(frame.data))
            elif frame.kind == FrameKind.CHECKPOINT:
                self.ledger.note(read_checkpoint(frame.data, self.sender.key))
        except RefusedError as refused:
            if refused.why is Why.STALE_CHECKPOINT:
                return  # one that came twice, over the wire and on a medium
            raise ExportLogDamaged(
                f"the archive of {self.sender.name} holds what is not {self.sender.name}'s",
                found=str(refused),
            ) from refused

    def close(self) -> None:
        self._log.close()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._log.size

    @property
    def sizes(self) -> dict[int, int]:
        """Bytes of each segment, by its number, as they are now; may be asked beside ``append``."""
        return dict(self._log.sizes)

    def behind(self, place: Place) -> int:
        """Bytes of blocks and all else that are kept from a place on."""
        return sum(
            size - (place.offset if number == place.segment else 0)
            for number, size in self.sizes.items()
            if number >= place.segment
        )

    def append(self, arrivals: Sequence[Arrival]) -> None:
        """Put what arrived on the disk, all or nothing.

        Raises:
            SpaceExhausted: the disk is full; nothing was kept.
        """
        self._log.append([(_kind(each), each.data) for each in arrivals])
        self._log.sync()
        self.synced = self._log.end

    def bound(self, limit: int, given: int) -> int:
        """Remove the oldest segments while there are more bytes than this; says how many were removed.

        Args:
            limit: bytes.
            given: the first segment that a sink still needs; that one and all after it stay.
        """
        removed = 0
        while self._log.size > limit and min(self._log.sizes) < min(given, max(self._log.sizes)):
            self._log.remove_oldest()
            removed += 1
        return removed

    def news(self) -> tuple[list[Change], dict[str, int]]:
        """What changed since ``told`` was said last: gaps, and alarms.

        A gap counts from the second time on that it is seen: blocks on their way are none.
        """
        now = look_at(self.ledger)
        fresh = without(without(now.missing, self._seen.missing), self._told.missing)
        self._seen = now
        self._news = replace(
            now, missing=tuple(without(now.missing, fresh)), lost=tuple(without(now.lost, fresh))
        )
        return changes(self._told, self._news), alarms(self._told, self._news)

    def told(self) -> None:
        """The news were told; remembered on the disk, so that nothing is told twice or never.

        Raises:
            SpaceExhausted: the disk is full; then it is told once more.
        """
        self._log.append([(FrameKind.STATE, ledger_bytes(self.ledger, self._news))])
        self._told = self._news


def _kind(arrival: Arrival) -> FrameKind:
    if arrival.checkpoint is not None:
        return FrameKind.CHECKPOINT
    return FrameKind.FORK if arrival.standing is Standing.FORK else FrameKind.BLOCK
