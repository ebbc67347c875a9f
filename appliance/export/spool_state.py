"""What a spool remembers beside its blocks: where the chain, the passes and the sources stand.

A state stands at the beginning of each segment and beside each checkpoint.  The positions of sources stand
before the block whose records they came with, in one write: who reads both has the block and knows where
its source goes on; who finds the end torn between them has neither.  So no record is taken twice or never.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.errors import ExportLogDamaged
from appliance.export.building import Head
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSES: Final = 3
#: Sources have a position each, and there are some dozens of them at most.
_MAX_STATE: Final = 64 << 10
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_KEYS: Final = frozenset(
    {"format", "type", "block", "sequence", "hash", "epoch", "dropped", "passes", "positions", "time"}
)
_TYPE: Final = "appliance-export-spool"
_POSITIONS: Final = "appliance-export-positions"


@dataclass(frozen=True, slots=True)
class SpoolState:
    """Where the chain stands, how many records were dropped, the next block of each pass.

    ``positions`` say by source up to where its records are in the chain, in the source's own words.
    """

    head: Head = field(default_factory=Head)
    epoch: int = 0
    dropped: int = 0
    passes: tuple[int, ...] = (0,) * PASSES
    positions: Mapping[str, str] = field(default_factory=dict)
    time: int = 0

    @property
    def data(self) -> bytes:
        return canonical_bytes(
            {
                "format": 1,
                "type": _TYPE,
                "block": self.head.block,
                "sequence": self.head.sequence,
                "hash": self.head.hash.hex(),
                "epoch": self.epoch,
                "dropped": self.dropped,
                "passes": list(self.passes),
                "positions": dict(self.positions),
                "time": self.time,
            }
        )


def parse_state(data: bytes) -> SpoolState:
    """Read a state.

    Raises:
        ExportLogDamaged: it is none.
    """
    top = _record(data, _TYPE, _KEYS)
    passes = [each for each in top.items("passes") if isinstance(each, int)]
    if len(passes) != PASSES:
        top.refuse("not so many passes")
    head = Head(
        top.number("block"), top.number("sequence", least=1), bytes.fromhex(top.text("hash", _HASH))
    )
    return SpoolState(
        head,
        top.number("epoch"),
        top.number("dropped"),
        tuple(passes),
        _texts(top.record("positions")),
        top.number("time"),
    )


def positions_bytes(block: bytes, positions: Mapping[str, str]) -> bytes:
    """The positions that hold once a block is kept; of sources that are not named they stay.

    Args:
        block: the hash of its header.  Not its number: if it was torn, another block gets that.
        positions: by source.
    """
    return canonical_bytes(
        {"format": 1, "type": _POSITIONS, "block": block.hex(), "positions": dict(positions)}
    )


def parse_positions(data: bytes) -> tuple[bytes, dict[str, str]]:
    """Read them: the hash of the block's header, and the positions.

    Raises:
        ExportLogDamaged: they are none.
    """
    top = _record(data, _POSITIONS, frozenset({"format", "type", "block", "positions"}))
    return bytes.fromhex(top.text("block", _HASH)), _texts(top.record("positions"))


def _record(data: bytes, kind: str, keys: frozenset[str]) -> Record:
    try:
        value = parse_canonical(data, limit=_MAX_STATE)
    except NotCanonicalError as fault:
        raise ExportLogDamaged("a state of a spool is not canonical JSON", found=str(fault)) from fault
    top = Record(value, "state", ExportLogDamaged).exactly(keys)
    if top.text("type") != kind or top.number("format") != 1:
        top.refuse("not a spool's state of format 1")
    return top


def _texts(record: Record) -> dict[str, str]:
    return {name: record.text(name) for name in record.names()}
