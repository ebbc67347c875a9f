"""What a receiver has of one node, and what is missing: pure, one state, no clock.

Blocks that follow one another without a hole are one *run*; between runs, before the first and up to the
newest checkpoint's end there are *gaps*.  A chain begins with block 0 and sequence 1, so whoever started
late has a gap, too.  The rules:

1. Every block with a right signature is taken, and each once.
2. A block whose number is taken by another history is a *fork*: another epoch claims the number, or the
   epochs do not ascend with the numbers.  A node was restored from an old state, or two have one key.
3. A block that does not name the hash of the one before it, or whose sequences do not follow, is taken
   and is a *break*: from then on the chain proves another line.
4. A missing block is *open* as long as the node can send it again, *lost* once the node itself says,
   signed, that it has it no more; and *filled* if it comes, whenever that is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from appliance.export.refusal import RefusedError, Why
from appliance.export.runs import Run, around, insert, touches

if TYPE_CHECKING:
    from appliance.export.block import BlockHeader
    from appliance.export.checkpoint import Checkpoint

MAX_RUNS: Final = 1024
MAX_FORKS: Final = 1024
MAX_BREAKS: Final = 1024
_RECENT: Final = 1024


class Standing(StrEnum):
    """What a block with a right signature is."""

    NEW = "new"
    KNOWN = "known"
    FORK = "fork"


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
    """The state of one node.

    ``dropped`` counts the records of drop blocks that have come; ``forks`` are the runs of other histories,
    by the epoch they were made in; ``walls_changed`` says how often a checkpoint named other digests than
    the one before it.
    """

    runs: list[Run] = field(default_factory=list)
    newest: Checkpoint | None = None
    oldest: int = 0
    dropped: int = 0
    breaks: list[int] = field(default_factory=list)
    forks: dict[int, list[Run]] = field(default_factory=dict)
    contradictions: int = 0
    walls_changed: int = 0
    _recent: OrderedDict[int, bytes] = field(default_factory=OrderedDict, compare=False)

    def judge(self, header: BlockHeader) -> Standing:
        """What this block is; nothing is changed.

        Raises:
            RefusedError: ``LEDGER_FULL``: it would be one gap or fork too many, so it stays missing.
        """
        standing = self._standing(header)
        if standing is Standing.FORK and self._too_many_forks(header):
            raise RefusedError(Why.LEDGER_FULL, f"{MAX_FORKS} gaps in other histories")
        if standing is Standing.NEW and len(self.runs) >= MAX_RUNS and not touches(self.runs, header.block):
            raise RefusedError(Why.LEDGER_FULL, f"{MAX_RUNS} gaps")
        return standing

    def _standing(self, header: BlockHeader) -> Standing:
        before, after = around(self.runs, header.block)
        if before is not None and header.block <= before.last:
            if before.epoch_of(header.block) in (header.epoch, None) and not self._differs(header):
                return Standing.KNOWN
            return self._fork(header)
        late = before is not None and before.epochs[-1][1] > header.epoch
        early = after is not None and after.epochs[0][1] < header.epoch
        return self._fork(header) if late or early else Standing.NEW

    def _differs(self, header: BlockHeader) -> bool:
        known = self._recent.get(header.block)
        return known is not None and known != header.hash

    def _fork(self, header: BlockHeader) -> Standing:
        before, _ = around(self.forks.get(header.epoch, []), header.block)
        known = before is not None and header.block <= before.last
        return Standing.KNOWN if known else Standing.FORK

    def _too_many_forks(self, header: BlockHeader) -> bool:
        if touches(self.forks.get(header.epoch, []), header.block):
            return False
        return sum(map(len, self.forks.values())) >= MAX_FORKS

    def add(self, header: BlockHeader) -> Standing:
        """Take a block that is kept, if it is not known."""
        standing = self._standing(header)
        if standing is Standing.FORK:
            insert(self.forks.setdefault(header.epoch, []), header)
        elif standing is Standing.NEW:
            found = insert(self.runs, header)
            self.breaks += found[: MAX_BREAKS - len(self.breaks)]
            self._recent[header.block] = header.hash
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            self._compare(header)
        return standing

    @property
    def forked(self) -> int:
        """How many blocks of other histories there are."""
        return sum(run.last + 1 - run.first for runs in self.forks.values() for run in runs)

    def note(self, checkpoint: Checkpoint) -> None:
        """Take a checkpoint.

        Raises:
            RefusedError: ``STALE_CHECKPOINT``.
        """
        known = self.newest
        if known and (checkpoint.epoch, checkpoint.number) <= (known.epoch, known.number):
            raise RefusedError(Why.STALE_CHECKPOINT, f"number {checkpoint.number}")
        if known and dict(known.digests) != dict(checkpoint.digests):
            self.walls_changed += 1
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
