"""What is proven between two checkpoints of a chain, in an archive that may be anything before and after.

The first says where the span begins and which hash its first block must name; the last where it ends and
which hash its last block must have.  Pure: fed with all that is believed of an archive, in its order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from appliance.errors import Usage

if TYPE_CHECKING:
    from appliance.export.block import BlockHeader
    from appliance.export.checkpoint import Checkpoint
    from appliance.export.ledger import Gap, Ledger

_NAME: Final = re.compile(r"([0-9]{1,10})/([0-9]{1,15})")

#: Epoch and number: what a checkpoint is called.
Name = tuple[int, int]


def parse_name(text: str) -> Name:
    """Read a checkpoint's name, ``EPOCH/NUMBER``.

    Raises:
        Usage: it is none.
    """
    found = _NAME.fullmatch(text)
    if not found:
        raise Usage("not a checkpoint", found=ascii(text)[:60], wanted="EPOCH/NUMBER: 1800000000/7")
    return int(found[1]), int(found[2])


def name_of(checkpoint: Checkpoint) -> Name:
    """What a checkpoint is called."""
    return checkpoint.epoch, checkpoint.number


@dataclass
class Span:
    """From what the first checkpoint states up to what the last does; ``None``: from block 0 on."""

    first: Checkpoint | None
    last: Checkpoint
    _hashes: dict[int, bytes] = field(default_factory=dict)
    _previous: bytes | None = None

    def __post_init__(self) -> None:
        if self.first and (name_of(self.first) >= name_of(self.last) or self.begin > self.end):
            raise Usage(
                "the checkpoints do not follow one another",
                found=f"{name_of(self.first)} and {name_of(self.last)}",
                wanted="the earlier one as --from",
            )

    @property
    def begin(self) -> int:
        """The first block."""
        return self.first.next_block if self.first else 0

    @property
    def end(self) -> int:
        """The block after the last one."""
        return self.last.next_block

    def see(self, header: BlockHeader) -> None:
        """Remember of a block of the chain what the checkpoints speak of."""
        if header.block in {self.begin - 1, self.end - 1}:
            self._hashes[header.block] = header.hash
        if header.block == self.begin:
            self._previous = header.previous

    def faults(self) -> list[str]:
        """In which ways blocks and checkpoints contradict each other at the ends."""
        found = []
        for stated in filter(None, (self.first, self.last)):
            known = self._hashes.get(stated.next_block - 1)
            if known is not None and known != stated.hash:
                found.append(f"block {stated.next_block - 1} is not the one that {name_of(stated)} names")
        if self.first and self._previous is not None and self._previous != self.first.hash:
            found.append(f"block {self.begin} does not follow the one that {name_of(self.first)} names")
        return found

    def gaps(self, ledger: Ledger) -> list[Gap]:
        """The parts of gaps that are within."""
        found = []
        for gap in ledger.gaps():
            first, last = max(gap.first, self.begin), min(gap.last, self.end - 1)
            if first > last:
                continue
            low, high = gap.first_sequence, gap.last_sequence
            if self.first:
                low = max(low, self.first.next_sequence)
            lost = min(max(gap.first + gap.lost - first, 0), last + 1 - first)
            found.append(
                replace(
                    gap,
                    first=first,
                    last=last,
                    lost=lost,
                    first_sequence=low,
                    last_sequence=min(high, self.last.next_sequence - 1),
                )
            )
        return found

    def has(self, first: int, last: int) -> bool:
        """Whether one of these blocks is within."""
        return first < self.end and last >= self.begin
