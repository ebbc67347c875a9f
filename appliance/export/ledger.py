"""What a receiver has of one node, and what is missing: pure, one state, no clock.

Blocks that follow one another without a hole are one *run*, of which only the ends are remembered; between
runs, before the first and up to the newest checkpoint's end there are *gaps*.  A chain begins with block 0
and sequence 1, so whoever started late has a gap, too.  The rules:

1. Every block with a right signature is taken, and each once.
2. A block whose number is taken by another history is a *fork*: another epoch claims the number, or the
   epochs do not ascend with the numbers.  A node was restored from an old state, or two have one key.
3. A block that does not name the hash of the one before it, or whose sequences do not follow, is taken
   and is a *break*: from then on the chain proves another line.
4. A missing block is *open* as long as the node can send it again, *lost* once the node itself says,
   signed, that it has it no more; and *filled* if it comes, whenever that is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from appliance.export.refusal import RefusedError, Why

if TYPE_CHECKING:
    from appliance.export.block import BlockHeader
    from appliance.export.checkpoint import Checkpoint

MAX_RUNS: Final = 1024
MAX_FORKS: Final = 1024
MAX_BREAKS: Final = 1024
#: Restarts of one run that are told apart; of older ones a fork is taken for a repetition.
MAX_EPOCHS: Final = 256
_RECENT: Final = 1024


class Standing(StrEnum):
    """What a block with a right signature is."""

    NEW = "new"
    KNOWN = "known"
    FORK = "fork"


@dataclass(slots=True)
class Run:
    """Blocks ``first`` to ``last`` without a hole, with sequences ``first_sequence`` to ``last_sequence``.

    ``previous`` is the hash that the first names, ``hash`` that of the last; ``epochs`` are pairs of the
    first block of each epoch in it, and the epoch.
    """

    first: int
    last: int
    first_sequence: int
    last_sequence: int
    previous: bytes
    hash: bytes
    epochs: list[tuple[int, int]]

    def epoch_of(self, block: int) -> int | None:
        """The epoch that has this block of the run; None if that is forgotten."""
        place = bisect_right(self.epochs, block, key=lambda each: each[0])
        return self.epochs[place - 1][1] if place else None


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing blocks and sequences, both ends included; the first ``lost`` blocks will not come again."""

    first: int
    last: int
    first_sequence: int
    last_sequence: int
    lost: int = 0

    @property
    def state(self) -> str:
        if not self.lost:
            return "open"
        return "lost" if self.lost == self.last + 1 - self.first else "partly lost"

    @property
    def records(self) -> int:
        return self.last_sequence + 1 - self.first_sequence


@dataclass
class Ledger:
    """The state of one node; ``dropped`` counts the records of drop blocks that have come."""

    runs: list[Run] = field(default_factory=list)
    newest: Checkpoint | None = None
    oldest: int = 0
    dropped: int = 0
    breaks: list[int] = field(default_factory=list)
    forks: list[tuple[int, int, str]] = field(default_factory=list)
    contradictions: int = 0
    _recent: OrderedDict[int, bytes] = field(default_factory=OrderedDict, compare=False)

    def judge(self, header: BlockHeader) -> Standing:
        """What this block is; nothing is changed.

        Raises:
            RefusedError: ``LEDGER_FULL``: it would be one gap or fork too many, so it stays missing.
        """
        standing = self._standing(header)
        if standing is Standing.FORK and len(self.forks) >= MAX_FORKS:
            raise RefusedError(Why.LEDGER_FULL, f"{MAX_FORKS} blocks of other histories")
        if standing is Standing.NEW and len(self.runs) >= MAX_RUNS and not self._touches(header.block):
            raise RefusedError(Why.LEDGER_FULL, f"{MAX_RUNS} gaps")
        return standing

    def _standing(self, header: BlockHeader) -> Standing:
        place = self._place(header.block)
        before = self.runs[place - 1] if place else None
        after = self.runs[place] if place < len(self.runs) else None
        if before is not None and header.block <= before.last:
            if before.epoch_of(header.block) in (header.epoch, None) and not self._differs(header):
                return Standing.KNOWN
            return self._fork(header)
        late = before is not None and before.epochs[-1][1] > header.epoch
        early = after is not None and after.epochs[0][1] < header.epoch
        if late or early:
            return self._fork(header)
        return Standing.NEW

    def _touches(self, block: int) -> bool:
        """Whether it makes a run longer, and no new one."""
        place = self._place(block)
        if place and self.runs[place - 1].last + 1 == block:
            return True
        return place < len(self.runs) and self.runs[place].first == block + 1

    def _place(self, block: int) -> int:
        """How many runs begin at this block or before it."""
        return bisect_right(self.runs, block, key=lambda each: each.first)

    def _differs(self, header: BlockHeader) -> bool:
        known = self._recent.get(header.block)
        return known is not None and known != header.hash

    def _fork(self, header: BlockHeader) -> Standing:
        return Standing.KNOWN if fork_of(header) in self.forks else Standing.FORK

    def add(self, header: BlockHeader) -> Standing:
        """Take a block that is kept, if it is not known."""
        standing = self._standing(header)
        if standing is Standing.FORK:
            self.forks.append(fork_of(header))
        elif standing is Standing.NEW:
            self._insert(header)
            self._recent[header.block] = header.hash
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            self._compare(header)
        return standing

    def _insert(self, header: BlockHeader) -> None:
        run = Run(
            header.block,
            header.block,
            header.first,
            header.last,
            header.previous,
            header.hash,
            [(header.block, header.epoch)],
        )
        place = self._place(header.block)
        self.runs.insert(place, run)
        if place + 1 < len(self.runs):
            self._join(place)
        if place:
            self._join(place - 1)

    def _join(self, place: int) -> None:
        """Make one run of two if nothing is between them; note it if the second does not follow."""
        left, right = self.runs[place], self.runs[place + 1]
        if left.last + 1 != right.first:
            return
        follows = right.previous == left.hash and right.first_sequence == left.last_sequence + 1
        if not follows and len(self.breaks) < MAX_BREAKS:
            self.breaks.append(right.first)
        epochs = left.epochs + [each for each in right.epochs if each[1] != left.epochs[-1][1]]
        left.last, left.hash = right.last, right.hash
        left.last_sequence = max(left.last_sequence, right.last_sequence)
        left.epochs = epochs[-MAX_EPOCHS:]
        del self.runs[place + 1]

    def note(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint.

        Raises:
            RefusedError: ``STALE_CHECKPOINT``.
        """
        known = self.newest
        if known and (checkpoint.epoch, checkpoint.number) <= (known.epoch, known.number):
            raise RefusedError(Why.STALE_CHECKPOINT, f"number {checkpoint.number}")
        self.newest = checkpoint
        self.oldest = max(self.oldest, checkpoint.oldest)
        end = checkpoint.next_block - 1
        found = self._recent.get(end)
        if self.runs and self.runs[-1].last == end:
            found = self.runs[-1].hash
        if found is not None and found != checkpoint.hash:
            self.contradictions += 1

    def _compare(self, header: BlockHeader) -> None:
        """A block that a checkpoint spoke of before it came."""
        known = self.newest
        if known and known.next_block - 1 == header.block and known.hash != header.hash:
            self.contradictions += 1

    def gaps(self) -> list[Gap]:
        """What is missing, in order."""
        found, block, sequence = [], 0, 1
        for run in self.runs:
            if run.first > block:
                found.append(self._gap(block, run.first - 1, sequence, run.first_sequence - 1))
            block, sequence = run.last + 1, run.last_sequence + 1
        known = self.newest
        if known and known.next_block > block:
            found.append(self._gap(block, known.next_block - 1, sequence, known.next_sequence - 1))
        return found

    def _gap(self, first: int, last: int, first_sequence: int, last_sequence: int) -> Gap:
        lost = min(max(self.oldest - first, 0), last + 1 - first)
        return Gap(first, last, first_sequence, last_sequence, lost)


def fork_of(header: BlockHeader) -> tuple[int, int, str]:
    """What is remembered of a block of another history: epoch, number, hash."""
    return header.epoch, header.block, header.hash.hex()
