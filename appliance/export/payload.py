"""What is inside a block: records, each preceded by its length, or a statement in canonical JSON.

Records are bytes; what they say is for sources and sinks.  A statement says why records were dropped, or
that an epoch was opened.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.export.block import MAX_RAW, Block, BlockKind
from appliance.export.refusal import RefusedError, Why
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, depth_of, parse_canonical

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH_BYTES: Final = 4
_LENGTH: Final = struct.Struct(">I")
#: So that one record always fits into a block, however badly it compresses.
MAX_RECORD: Final = 64 * 1024
#: Lists and objects within one another.  How many a reader takes depends on its version, and on where it is
#: asked: what was believed by one part of the receiver must not be too deep for another.
MAX_DEPTH: Final = 100
PLAIN: Final = 0
ZLIB: Final = 1
_MAX_STATEMENT: Final = 4096


@dataclass(frozen=True, slots=True)
class Drop:
    """What a node says of records it could not keep: why, how many bytes, between which times (ms)."""

    reason: str
    size: int
    since: int
    until: int

    @property
    def data(self) -> bytes:
        return canonical_bytes(
            {"bytes": self.size, "reason": self.reason, "since": self.since, "until": self.until}
        )


def framed(records: Iterable[bytes]) -> bytes:
    """Records as a payload before coding."""
    return b"".join(length_bytes(each) + each for each in records)


def length_bytes(record: bytes) -> bytes:
    """What stands before a record."""
    return _LENGTH.pack(len(record))


def records_of(block: Block) -> list[bytes]:
    """The records of a block of that kind; the first has the sequence ``block.header.first``.

    Raises:
        RefusedError: ``MALFORMED``.
    """
    header = block.header
    if header.kind is not BlockKind.RECORDS:
        raise ValueError("a block without records")
    raw = raw_of(block)
    found, place, end, length_at = [], 0, len(raw), _LENGTH.unpack_from
    while place + LENGTH_BYTES <= end:
        (size,) = length_at(raw, place)
        begin = place + LENGTH_BYTES
        place = begin + size
        if size > MAX_RECORD or place > end:
            raise RefusedError(Why.MALFORMED, f"a record of {size} bytes")
        found.append(raw[begin:place])
    if place != end:
        raise RefusedError(Why.MALFORMED, f"{end - place} bytes behind the last record")
    if len(found) != header.records:
        raise RefusedError(Why.MALFORMED, f"{len(found)} records, not {header.records}")
    return found


def statement_of(block: Block) -> dict[str, object]:
    """What a block of drops or an opening states.

    Raises:
        RefusedError: ``MALFORMED``.
    """
    if block.header.kind is BlockKind.RECORDS:
        raise ValueError("a block of records")
    try:
        value = parse_canonical(raw_of(block), limit=_MAX_STATEMENT)
    except NotCanonicalError as fault:
        raise RefusedError(Why.MALFORMED, str(fault)) from fault
    if not isinstance(value, dict):
        raise RefusedError(Why.MALFORMED, "a statement that is no object")
    if depth_of(value) > MAX_DEPTH:
        raise RefusedError(Why.MALFORMED, "a statement that is nested too deeply")
    return value


def raw_of(block: Block) -> bytes:
    """The payload before coding.

    Raises:
        RefusedError: ``MALFORMED``.
    """
    header, payload = block.header, block.payload
    if header.coding == ZLIB:
        decoder = zlib.decompressobj()
        try:
            payload = decoder.decompress(payload, MAX_RAW + 1)
        except zlib.error as fault:
            raise RefusedError(Why.MALFORMED, "not zlib") from fault
        if not decoder.eof or decoder.unused_data:
            raise RefusedError(Why.MALFORMED, "zlib that does not end with the payload")
    if len(payload) != header.raw_length:
        raise RefusedError(Why.MALFORMED, f"{len(payload)} bytes, not {header.raw_length}")
    return payload


def check_payload(block: Block) -> None:
    """Refuse a block whose payload is none of its kind.

    Raises:
        RefusedError: ``MALFORMED``.
    """
    if block.header.kind is BlockKind.RECORDS:
        records_of(block)
    else:
        statement_of(block)
