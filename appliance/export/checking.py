"""Proving, from an archive or a medium alone, that nothing is missing or altered: offline, years later.

Every signature, every hash and every sequence is computed anew; nothing that a receiver wrote down about
them is believed.  What is proven reaches from block 0 to the end that the last checkpoint names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.errors import ExportLogDamaged
from appliance.export.block import BlockKind, parse_block, verify_block
from appliance.export.checkpoint import Checkpoint, read_checkpoint
from appliance.export.ledger import Gap, Ledger, Standing
from appliance.export.payload import check_payload
from appliance.export.reception import enter
from appliance.export.refusal import RefusedError, Why
from appliance.export.segments import Frame, FrameKind, Segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from appliance.export.block import Block
    from appliance.export.identity import Sender


@dataclass
class Proof:
    """What was found; ``altered`` says where and why, for people."""

    blocks: int = 0
    records: int = 0
    dropped: int = 0
    checkpoints: int = 0
    repeated: int = 0
    first: Checkpoint | None = None
    last: Checkpoint | None = None
    gaps: list[Gap] = field(default_factory=list)
    forks: int = 0
    breaks: list[int] = field(default_factory=list)
    contradictions: int = 0
    altered: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Nothing is missing up to the last checkpoint, nothing altered, and there is one history."""
        faults = (self.altered, self.gaps, self.forks, self.breaks, self.contradictions)
        return self.last is not None and not any(faults)


def check_folders(folders: Iterable[Path], sender: Sender) -> Proof:
    """Check everything of one node in these folders of segments.

    Raises:
        OSError: a folder cannot be read.
    """
    proof, ledger = Proof(), Ledger()
    for folder in folders:
        log = Segments(str(folder))
        try:
            for frame in _frames(log, folder, proof):
                _judge(
                    frame,
                    f"{folder.name}, byte {frame.place.offset} of {frame.place.segment}",
                    proof,
                    ledger,
                    sender,
                )
        finally:
            log.close()
    proof.gaps = ledger.gaps()
    proof.forks, proof.breaks = ledger.forked, ledger.breaks
    proof.contradictions += ledger.contradictions
    proof.dropped = ledger.dropped
    return proof


def _frames(log: Segments, folder: Path, proof: Proof) -> Iterator[Frame]:
    """All frames of all segments; after damage goes on with the next segment."""
    for number in sorted(log.sizes):
        try:
            yield from log.segment(number)
        except ExportLogDamaged as damage:
            proof.altered.append(f"{folder.name}: {damage.message}, {damage.found}")


def _judge(frame: Frame, where: str, proof: Proof, ledger: Ledger, sender: Sender) -> None:
    try:
        if frame.kind in (FrameKind.BLOCK, FrameKind.FORK):
            _count(_believed(frame.data, sender), proof, ledger)
        elif frame.kind == FrameKind.CHECKPOINT:
            _note(read_checkpoint(frame.data, sender.key), proof, ledger)
    except RefusedError as refused:
        proof.altered.append(f"{where}: {refused}")


def _believed(data: bytes, sender: Sender) -> Block:
    block = parse_block(data)
    if block.header.node != sender.node:
        raise RefusedError(Why.OTHER_BLOCK, block.header.node.hex())
    verify_block(block, sender.key)
    check_payload(block)
    return block


def _count(block: Block, proof: Proof, ledger: Ledger) -> None:
    if ledger.judge(block.header) is Standing.KNOWN:
        proof.repeated += 1
        return
    enter(ledger, block)
    proof.blocks += 1
    if block.header.kind is BlockKind.RECORDS:
        proof.records += block.header.records


def _note(checkpoint: Checkpoint, proof: Proof, ledger: Ledger) -> None:
    try:
        ledger.note(checkpoint)
    except RefusedError:
        proof.repeated += 1
        return
    proof.checkpoints += 1
    proof.first = proof.first or checkpoint
    proof.last = checkpoint
