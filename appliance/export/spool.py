"""What a node has to send: a bounded log of blocks, on the disk before anything leaves.

The log is all there is: its last block says where the chain stands and in which epoch, and a state that
each segment begins with says how far the passes are.  So there is nothing that could contradict it, and
nothing that a cut could leave half changed.  The first segment is made with the identity, once: a folder
without one is a lost spool, since going on from nothing would use numbers twice.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.errors import ExportLogDamaged, SpoolLost
from appliance.export.block import BlockKind, parse_block, verify_block
from appliance.export.packet import MAX_CODED
from appliance.export.refusal import RefusedError
from appliance.export.segment_log import DEFAULT_SEGMENT, SegmentLog
from appliance.export.segments import Frame, FrameKind, Place
from appliance.export.spool_state import SpoolState, parse_positions, parse_state, positions_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.export.block import Block, BlockHeader
    from appliance.export.identity import Sender

MIN_LIMIT: Final = 8 << 20
#: Room that only statements may use: what was dropped must be said although the spool is full.  Checkpoints
#: leave half of it to statements of drops, and these an eighth to the last one and to openings of epochs.
RESERVE: Final = 1 << 20
FOR_DROPS: Final = RESERVE // 2
FOR_LAST: Final = RESERVE // 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A block as it lies in the spool, and where the next frame begins."""

    header: BlockHeader
    data: bytes
    end: Place


#: Blocks that were kept last, which are about to be sent: nobody looks for them on the disk.
_RECENT: Final = 64


class Spool:
    """The spool of one node, in an existing folder.

    Args:
        folder: where.
        sender: whose.
        limit: bytes it may take.
        segment: bytes of a segment; an eighth of the limit at most.
        new: found it, in an empty folder.

    Raises:
        SpoolLost: it is not there, or is another node's; or it is there and is to be founded.
        InProgress: another process has it.
    """

    def __init__(
        self, folder: str, sender: Sender, *, limit: int, segment: int = DEFAULT_SEGMENT, new: bool = False
    ) -> None:
        if limit < MIN_LIMIT:
            raise ValueError(f"a spool has {MIN_LIMIT} bytes at least")
        self.limit = limit
        self.written = 0
        self.state = SpoolState()
        self._sender = sender
        self._log = SegmentLog(folder, lambda: self.state.data, segment=min(segment, limit // 8))
        #: The first block of each segment that can be read, ascending with the segments.
        self._firsts: dict[int, SpoolState] = {}
        self._recent: dict[int, Stored] = {}
        try:
            self._recall(folder, new=new)
            if new:
                self._append((FrameKind.STATE, self.state.data))
                self.sync()
        except BaseException:
            self._log.close()
            raise

    def _recall(self, folder: str, *, new: bool) -> None:
        for number in self._log.sizes:
            self._index(number)
        if bool(self._log.sizes) == new:
            raise SpoolLost(
                f"{folder} holds {'a spool already' if new else 'no spool'}",
                wanted="an empty folder" if new else "the spool that was made with the identity",
                hint="appliance export init makes identity and spool; a chain cannot begin a second time",
            )
        coming: tuple[bytes, Mapping[str, str]] = (b"", {})
        for frame in self._log.frames(Place(max(self._log.sizes, default=0), 0)):
            if frame.kind == FrameKind.STATE:
                self.state = parse_state(frame.data)
            if frame.kind == FrameKind.POSITIONS:
                coming = parse_positions(frame.data)
            if frame.kind == FrameKind.BLOCK:
                block = self._own(frame)
                # Torn between the two, that block was cut off, and its records are still at their source.
                self._advance(block, coming[1] if coming[0] == block.header.hash else {})

    def _own(self, frame: Frame) -> Block:
        try:
            block = parse_block(frame.data)
            verify_block(block, self._sender.key)
        except RefusedError as refused:
            raise SpoolLost(
                "a block of the spool is not this node's", found=str(refused), wanted=self._sender.name
            ) from refused
        return block

    def _advance(self, block: Block, positions: Mapping[str, str]) -> None:
        header = block.header
        dropped = self.state.dropped + (header.records if header.kind is BlockKind.DROPS else 0)
        self.state = replace(
            self.state,
            head=self.state.head.after(header),
            epoch=header.epoch,
            dropped=dropped,
            positions={**self.state.positions, **positions} if positions else self.state.positions,
        )

    def _index(self, number: int) -> None:
        """Remember what a segment begins with; one that cannot be read is passed over from now on."""
        try:
            frame = next(self._log.frames(Place(number, 0)))
            self._firsts[number] = parse_state(frame.data)
        except (ExportLogDamaged, StopIteration):
            return

    def close(self) -> None:
        self._log.close()

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return self._log.size

    @property
    def oldest(self) -> int:
        """The first block that is still there."""
        return next(iter(self._firsts.values())).head.block if self._firsts else self.state.head.block

    def room(self, done: int) -> int:
        """Bytes for blocks that are free, or will give way since all before this block had every pass."""
        place = self.place_of(done)
        kept = sum(size for number, size in self._log.sizes.items() if number >= place.segment)
        return max(0, self.limit - RESERVE - kept)

    # --- writing -------------------------------------------------------------------------------

    def keep(self, block: Block, positions: Mapping[str, str] | None = None) -> None:
        """Put a block at the end; it may leave after ``sync``.

        Args:
            block: the next one.
            positions: of the sources that it took the rest from, once it is kept.

        Raises:
            SpaceExhausted: the disk is full; try again with the same block.
        """
        frames = [(FrameKind.BLOCK, block.data)]
        if positions:
            frames.insert(0, (FrameKind.POSITIONS, positions_bytes(block.header.hash, positions)))
        self._append(*frames)
        self._advance(block, positions or {})
        number = block.header.block
        self._recent[number] = Stored(block.header, frames[-1][1], self._log.end)
        self._recent.pop(number - _RECENT, None)

    def note(self, checkpoint: bytes, passes: tuple[int, ...], time: int) -> None:
        """Keep a signed checkpoint and how far the passes are; they are on the disk after ``sync``."""
        self.state = replace(self.state, passes=passes, time=time)
        self._append((FrameKind.STATE, self.state.data), (FrameKind.CHECKPOINT, checkpoint))

    def _append(self, *frames: tuple[FrameKind, bytes]) -> None:
        before = self._log.size
        place = self._log.append(frames)[0]
        self.written += self._log.size - before
        if place.segment not in self._firsts:
            self._index(place.segment)

    def sync(self) -> None:
        """Wait for the disk."""
        self._log.sync()

    def has_room(self, size: int, passes: tuple[int, ...], *, leaving: int = RESERVE) -> bool:
        """Whether so many bytes fit, after the oldest segments gave way whose blocks had all passes.

        Args:
            size: bytes.
            passes: the next block of each pass.
            leaving: bytes that must be left then.
        """
        wanted = size + leaving
        while self.size + wanted > self.limit and self._may_go(min(passes)):
            oldest = min(self._log.sizes)
            self._log.remove_oldest()
            self._firsts.pop(oldest, None)
        return self.size + wanted <= self.limit

    def _may_go(self, done: int) -> bool:
        """Whether there is a second segment, before which everything was sent in every pass."""
        later = [number for number in self._firsts if number > min(self._log.sizes)]
        return bool(later) and self._firsts[later[0]].head.block <= done

    # --- reading -------------------------------------------------------------------------------

    def since(self, time: int) -> int:
        """A block near the first one made after a time (ms): that which a segment begins with."""
        found = self.oldest
        for state in self._firsts.values():
            if state.time and state.time <= time:
                found = state.head.block
        return found

    def place_of(self, block: int) -> Place:
        """Where to look for a block: at the beginning of its segment."""
        numbers = list(self._firsts)
        place = bisect_right(numbers, block, key=lambda each: self._firsts[each].head.block)
        return Place(numbers[max(place - 1, 0)], 0) if numbers else Place(0, 0)

    def read(self, block: int, near: Place | None = None) -> Stored | None:
        """The first block from this number on; None at the end.

        What cannot be read is passed over: the receiver's ledger has it as a gap.

        Args:
            block: the number.
            near: where to look for it, as the block before it said.
        """
        if (recent := self._recent.get(block)) is not None:
            return recent
        place = near or self.place_of(block)
        while True:
            try:
                for frame in self._log.frames(place):
                    place = frame.end
                    if frame.kind == FrameKind.BLOCK:
                        header = parse_block(frame.data, kept=True).header
                        if header.block >= block:
                            return Stored(header, frame.data, frame.end)
            except (ExportLogDamaged, RefusedError):
                later = [number for number in self._firsts if number > place.segment]
                if not later:
                    return None
                place = Place(later[0], 0)
                continue
            return None


def largest() -> int:
    """Bytes that the largest block takes in a spool, with all that comes with it."""
    return MAX_CODED + 4096
