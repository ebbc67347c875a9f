"""Blocks that a receiver misses, once more: from the spool, as they were, over the line or onto a medium.

The sender may run meanwhile: its spool is only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.errors import ExportLogDamaged
from appliance.export.block import parse_block
from appliance.export.checkpoint import unproven
from appliance.export.packet import PacketKind
from appliance.export.refusal import RefusedError
from appliance.export.segment_log import SegmentLog
from appliance.export.segments import Frame, FrameKind, Segments
from appliance.export.symbols import DEFAULT_PERCENT, code

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.export.gap_history import Range
    from appliance.export.identity import Identity


def frames_of(spool: Path, ranges: Sequence[Range]) -> Iterator[Frame]:
    """The blocks in these ranges, and the newest checkpoint, as they lie in a spool."""
    log = Segments(str(spool))
    newest = None
    try:
        for number in sorted(log.sizes):
            try:
                for frame in log.segment(number):
                    if frame.kind == FrameKind.CHECKPOINT:
                        newest = frame
                    elif frame.kind == FrameKind.BLOCK and _wanted(frame, ranges):
                        yield frame
            except ExportLogDamaged:  # its other blocks stay a gap; or the end, which is being written
                continue
    finally:
        log.close()
    if newest is not None:
        yield newest


def _wanted(frame: Frame, ranges: Sequence[Range]) -> bool:
    try:
        block = parse_block(frame.data).header.block
    except RefusedError:
        return False
    return any(first <= block <= last for first, last in ranges)


def onto_medium(spool: Path, ranges: Sequence[Range], medium: Path) -> int:
    """Write the blocks to a folder on a medium; says how many.

    Raises:
        SpaceExhausted: the medium is full; what it has is whole.
    """
    medium.mkdir(parents=True, exist_ok=True)
    log = SegmentLog(str(medium))
    blocks = 0
    try:
        for frame in frames_of(spool, ranges):
            log.append([(frame.kind, frame.data)])
            blocks += frame.kind == FrameKind.BLOCK
        log.sync()
    finally:
        log.close()
    return blocks


def as_datagrams(
    spool: Path, ranges: Sequence[Range], identity: Identity, *, percent: int = DEFAULT_PERCENT
) -> Iterator[list[bytes]]:
    """The datagrams of each of the blocks, and of the newest checkpoint, as they were sent before."""
    for frame in frames_of(spool, ranges):
        if frame.kind == FrameKind.BLOCK:
            header = parse_block(frame.data).header
            kind, epoch, number = PacketKind.BLOCK, header.epoch, header.block
        else:
            stated = unproven(frame.data)
            kind, epoch, number = PacketKind.CHECKPOINT, stated.epoch, stated.number
        yield code(
            kind, identity.node, epoch, number, frame.data, tag_key=identity.tag_key, percent=percent
        )
