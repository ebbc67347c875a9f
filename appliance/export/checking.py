"""Proving, from an archive or a medium alone, that nothing is missing or altered: offline, years later.

Every signature, every hash and every sequence is computed anew; nothing that a receiver wrote down about
them is believed.  What is proven reaches from block 0 to the end that the last checkpoint names, or, if
that is asked for, from one checkpoint to another.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.errors import ExportLogDamaged, Usage
from appliance.export.block import BlockKind, parse_block, verify_block
from appliance.export.checkpoint import Checkpoint, read_checkpoint
from appliance.export.ledger import Gap, Ledger, Standing
from appliance.export.payload import check_payload
from appliance.export.reception import enter
from appliance.export.refusal import RefusedError, Why
from appliance.export.segments import Frame, FrameKind, Segments
from appliance.export.span import Span, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.export.block import Block
    from appliance.export.identity import Sender
    from appliance.export.span import Name


@dataclass(frozen=True)
class Fork:
    """Blocks of another history, without a hole between them, and their sequences; ends included."""

    epoch: int
    first: int
    last: int
    first_sequence: int
    last_sequence: int


@dataclass
class Proof:
    """What was found; ``altered`` says where and why, for people.

    Between two checkpoints, ``gaps``, ``histories`` and ``breaks`` are those within.
    """

    blocks: int = 0
    records: int = 0
    dropped: int = 0
    checkpoints: int = 0
    repeated: int = 0
    first: Checkpoint | None = None
    last: Checkpoint | None = None
    gaps: list[Gap] = field(default_factory=list)
    forks: int = 0
    histories: list[Fork] = field(default_factory=list)
    span: Span | None = None
    breaks: list[int] = field(default_factory=list)
    contradictions: int = 0
    altered: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Nothing is missing up to the last checkpoint, nothing altered, and there is one history.

        Between two checkpoints nothing else counts: what was altered in there is missing.
        """
        faults: tuple[object, ...] = (self.gaps, self.histories, self.breaks)
        if self.span is not None:
            return not any(faults) and not self.span.faults()
        return self.last is not None and not any((*faults, self.altered, self.contradictions))


def check_folders(
    folders: Sequence[Path], sender: Sender, *, since: Name | None = None, until: Name | None = None
) -> Proof:
    """Check everything of one node in these folders of segments.

    Args:
        folders: which.
        sender: whose.
        since: the checkpoint to begin with; None: from block 0 on.
        until: the checkpoint to end with; None: the newest one.

    Raises:
        OSError: a folder cannot be read.
        Usage: there is no such checkpoint, or the two do not follow one another.
    """
    proof, ledger = Proof(), Ledger()
    if since is not None or until is not None:
        proof.span = _span(folders, sender, since, until)
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
    span = proof.span
    proof.gaps = span.gaps(ledger) if span else ledger.gaps()
    proof.forks = ledger.forked
    proof.breaks = [each for each in ledger.breaks if span is None or span.has(each, each)]
    proof.histories = [
        Fork(epoch, run.first, run.last, run.first_sequence, run.last_sequence)
        for epoch, runs in sorted(ledger.forks.items())
        for run in runs
        if span is None or span.has(run.first, run.last)
    ]
    proof.contradictions += ledger.contradictions
    proof.dropped = ledger.dropped
    return proof


def _span(folders: Sequence[Path], sender: Sender, since: Name | None, until: Name | None) -> Span:
    """The two checkpoints, which are looked for before anything else is believed."""
    found: dict[Name, Checkpoint] = {}
    for folder in folders:
        log = Segments(str(folder))
        try:
            for frame in _frames(log, folder, Proof()):
                if frame.kind == FrameKind.CHECKPOINT:
                    with suppress(RefusedError):
                        stated = read_checkpoint(frame.data, sender.key)
                        found[name_of(stated)] = stated
        finally:
            log.close()
    for name in filter(None, (since, until)):
        if name not in found:
            raise Usage(
                f"there is no checkpoint {name[0]}/{name[1]}",
                found=f"{len(found):,} others",
                hint="records.jsonl says which epochs there are; each has a checkpoint every 10 s",
            )
    if not found:
        raise Usage("there is no checkpoint at all")
    return Span(found[since] if since else None, found[until or max(found)])


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
    standing = ledger.judge(block.header)
    if standing is Standing.KNOWN:
        proof.repeated += 1
        return
    enter(ledger, block)
    if standing is Standing.NEW and proof.span is not None:
        proof.span.see(block.header)
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
