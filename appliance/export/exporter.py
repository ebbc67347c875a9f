"""What a node does with its records: into a block, into the spool, or into a statement of what was dropped.

Time is given; the disk is the spool's.

Whoever logs is never kept waiting.  When the spool has no room, records are counted instead of kept, and
the chain says so, signed, as soon as it can; or, by policy, the export stops and what depends on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import SpaceExhausted, SpoolFull
from appliance.export.building import BlockBuilder
from appliance.export.checkpoint import Checkpoint, sign_checkpoint
from appliance.export.pacing import Passes
from appliance.export.payload import MAX_RECORD, Drop
from appliance.export.spool import FOR_DROPS, FOR_LAST, largest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.export.block import Block
    from appliance.export.identity import Identity
    from appliance.export.spool import Spool

#: Seconds without anything leaving after which a start that found its spool full ends: the third pass of
#: the newest block comes after ten minutes.
STANDSTILL: Final = 900.0
#: Seconds that a record waits for others to fill a block with.
LINGER: Final = 0.25
_STATEMENT: Final = 4096
#: Some months before four bytes are full: a clock that is far off leaves room for as many starts.
_LAST_EPOCH: Final = (1 << 32) - (1 << 24)


@dataclass(frozen=True, slots=True)
class Moment:
    """Now: ``steady`` in seconds of a clock that never goes back, ``wall`` in ms since 1970."""

    steady: float
    wall: int


@dataclass(slots=True)
class _Dropped:
    count: int = 0
    size: int = 0
    since: int = 0
    until: int = 0
    reason: str = "spool-full"


class Exporter:
    """One start of one node's export: opens the next epoch, in a spool without any room once it has some.

    Args:
        identity: who.
        spool: theirs.
        now: the moment.
        stop_when_full: by policy, nothing is ever dropped.
        version: of this program, for the epoch's opening.
    """

    def __init__(
        self,
        identity: Identity,
        spool: Spool,
        now: Moment,
        *,
        stop_when_full: bool = False,
        version: str = "",
    ) -> None:
        self._identity, self.spool = identity, spool
        self._stop = stop_when_full
        state = spool.state
        self.passes = Passes(list(state.passes), state.head.block)
        self.epoch = _epoch_after(state.epoch, now)
        self._builder = BlockBuilder(identity.node, self.epoch, state.head, identity.key)
        self._checkpoints = 0
        self._had_room = False
        self._left = (list(self.passes.next), now.steady)
        self._since: float | None = None
        self._dropped = _Dropped()
        self._positions: dict[str, str] = {}
        self._unkept: tuple[Block, dict[str, str]] | None = None
        self._unsynced = False
        #: Why this start ends, once something was dropped that by policy may not be.
        self.full: SpoolFull | None = None
        self._keep(self._builder.open_epoch({"reason": "start", "version": version}, now.wall))
        #: Of each source, up to where its records are on the disk.
        self.settled = spool.state.positions
        self.sync(now)

    @property
    def next_sequence(self) -> int:
        """The sequence that the next record gets."""
        return self._builder.head.sequence + self._builder.waiting + self._dropped.count

    @property
    def dropping(self) -> bool:
        """Whether records are being dropped."""
        return bool(self._dropped.count)

    def offer(self, record: bytes, now: Moment, source: str = "", position: str = "") -> bool:
        """Take a record; False if it was dropped: it is gone from its source, and so is in the signed word.

        Where the policy forbids that, ``full`` is why this start ends.

        Args:
            record: what it holds.
            now: the moment.
            source: where it came from.
            position: where that one goes on, once the record is accounted for.
        """
        if len(record) > MAX_RECORD:
            taken = self._drop(record, "too-long", now)
        elif not (taken := self._take(record, now)):
            if self._stop and self.full is None:
                self.full = self._full()
            self._drop(record, "spool-full", now)
        if position:
            self._positions[source] = position
        return taken

    def take(self, record: bytes, now: Moment, source: str = "", position: str = "") -> bool:
        """Take a record that can be had later too; False if there is no room for it now.

        Raises:
            SpoolFull: there is none, the policy is to stop, and there was room since this start.
        """
        if len(record) > MAX_RECORD:
            return self.offer(record, now, source, position) or True
        if not self._take(record, now):
            if self._stop and self._ends(now):
                raise self._full()
            return False
        if position:
            self._positions[source] = position
        return True

    def say(self, word: bytes, now: Moment) -> bool:
        """Take a word of the exporter's own; False if it waits, since it shall not be what ends a start.

        Raises:
            SpoolFull: as ``take`` does.
        """
        if self._stop:
            return self.take(word, now)
        self.offer(word, now)
        return True

    def _take(self, record: bytes, now: Moment) -> bool:
        # A statement for many of them: only once there is room again, or with the next checkpoint.
        if self._dropped.count and not (self._may_begin() and self._say_dropped(now)):
            return False
        if self._builder.waiting:
            if self._builder.add(record):
                return True
            self.seal(now)
        if not self._may_begin():
            return False
        self._builder.add(record)
        self._had_room = True
        self._since = now.steady
        return True

    def _ends(self, now: Moment) -> bool:
        """Whether a full spool ends this start: there was room in it already, or nothing leaves any more.

        A start that finds its spool full sends first; else no start after such an end would ever go on.
        """
        if self.passes.next != self._left[0]:
            self._left = (list(self.passes.next), now.steady)
        return self._had_room or now.steady - self._left[1] > STANDSTILL

    def _may_begin(self) -> bool:
        """Whether a whole block will find room."""
        return self._retry() and self.spool.has_room(largest(), tuple(self.passes.next))

    def _has_room(self, leaving: int) -> bool:
        return self.spool.has_room(_STATEMENT, tuple(self.passes.next), leaving=leaving)

    def _drop(self, record: bytes, reason: str, now: Moment) -> bool:
        dropped = self._dropped
        # In a full spool what is too long is counted with the rest: statements shall not fill it.
        if dropped.count and dropped.reason != reason and (reason == "spool-full" or self._may_begin()):
            self._say_dropped(now)
            dropped = self._dropped
        if not dropped.count:
            self.seal(now)
            dropped.since, dropped.reason = now.wall, reason
        dropped.count += 1
        dropped.size += len(record)
        dropped.until = now.wall
        return False

    def _full(self) -> SpoolFull:
        waiting = self.passes.end - self.passes.next[0]
        return SpoolFull(
            "the spool is full and nothing may be dropped",
            found=f"{self.spool.size:,} bytes, of which {waiting:,} blocks were not sent yet",
            hint="give it more room (--spool) or a faster line (--rate)",
        )

    def _say_dropped(self, now: Moment, leaving: int = FOR_LAST) -> bool:
        """Put the statement of what was dropped into the chain; False if there is no room even for it."""
        dropped = self._dropped
        if not self._retry() or not self._has_room(leaving):
            return False
        stated = Drop(dropped.reason, dropped.size, dropped.since, dropped.until)
        block = self._builder.drop(dropped.count, stated, now.wall)
        self._dropped = _Dropped()
        self._keep(block)
        return True

    def seal(self, now: Moment) -> None:
        """Make a block of what waits."""
        self._since = None
        if (block := self._builder.seal(now.wall)) is not None:
            self._keep(block)

    def _keep(self, block: Block) -> None:
        """Into the spool, or, if that or the disk is full, next time: the chain has the block already."""
        if self._unkept is not None:
            raise RuntimeError("a block before this one is not kept yet")
        self._unkept, self._positions = (block, self._positions), {}
        self._retry()

    def _retry(self) -> bool:
        """Whether every block that was made is in the spool."""
        if self._unkept is None:
            return True
        if not self._has_room(0):
            return False
        try:
            self.spool.keep(*self._unkept)
        except SpaceExhausted:
            return False
        self._unkept = None
        self._unsynced = True
        return True

    def due(self, now: Moment) -> float | None:
        """Seconds until the block that is being filled must be sealed; None if there is none."""
        return None if self._since is None else max(0.0, self._since + LINGER - now.steady)

    def tick(self, now: Moment) -> None:
        """Seal what has waited long enough, and let what was made leave once it is on the disk."""
        if self.due(now) == 0.0:
            self.seal(now)
        self.sync(now)

    def sync(self, now: Moment) -> None:
        """Wait for the disk; what is on it may leave."""
        if self._retry() and self._unsynced:
            self.spool.sync()
            self._unsynced = False
            self.settled = self.spool.state.positions
            self.passes.made(self.spool.state.head.block, now.steady)

    def checkpoint(
        self, digests: Mapping[str, str], now: Moment, *, last: bool = False
    ) -> tuple[int, bytes] | None:
        """The next checkpoint's number and bytes; None while the disk takes nothing.

        It is kept in the spool unless there is hardly room for statements of drops.

        Args:
            digests: of what keeps the export one-way.
            now: the moment.
            last: of this start; what was dropped is said with the last room.
        """
        if self._retry():
            self.seal(now)
        if self.dropping:
            self._say_dropped(now, 0 if last else FOR_LAST)
        self.sync(now)
        if self._unkept is not None:
            return None
        head = self.spool.state.head
        stated = Checkpoint(
            node=self._identity.node,
            epoch=self.epoch,
            number=self._checkpoints,
            time=now.wall,
            next_block=head.block,
            next_sequence=head.sequence,
            hash=head.hash,
            dropped=self.spool.state.dropped,
            oldest=self.spool.oldest,
            size=self.spool.size,
            limit=self.spool.limit,
            digests=digests,
        )
        data = sign_checkpoint(stated, self._identity.key)
        try:
            if self._has_room(FOR_DROPS):
                self.spool.note(data, tuple(self.passes.next), now.wall)
                self.spool.sync()
        except SpaceExhausted:
            return None
        self._checkpoints += 1
        return stated.number, data


def _epoch_after(last: int, now: Moment) -> int:
    """The next epoch: the seconds since 1970, if that is later than the last one, or one more than it.

    So a node that was restored from an old state opens another epoch than it did after that state was
    saved, and receivers tell the two histories apart.
    """
    seconds = now.wall // 1000
    return seconds if last < seconds < _LAST_EPOCH else last + 1
