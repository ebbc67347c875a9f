"""Blocks: records of a node in one signed piece, each naming the hash of the one before.

What is coded into symbols: the header (136 bytes), its Ed25519 signature (64), the payload.  The header, in
network byte order (docs/export.md):

======  =====  ==============================================================
offset  bytes  field
======  =====  ==============================================================
0       16     ``appliance-block`` and a byte 1: what is signed serves nothing else
16      8      node
24      4      epoch
28      1      kind: 1 records, 2 drops, 3 opening of an epoch
29      1      coding of the payload: 0 as it is, 1 zlib (RFC 1950)
30      2      zero
32      8      number of the block, from 0, never used twice
40      8      sequence of its first record; records count from 1
48      8      sequence of its last record; of an opening, one less than the first
56      4      length of the payload before coding
60      4      length of the payload
64      8      the node's clock, in milliseconds since 1970 (UTC); nothing is decided by it
72      32     SHA-256 of the payload as it is sent
104     32     SHA-256 of the header before; zeros for block 0
======  =====  ==============================================================

Numbers and sequences are at most 2**53 - 1, and go on over restarts; the epoch counts the restarts.  So two
blocks with one number are always two histories: a node was restored from an old state, or two have one key.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature

from appliance.export.packet import MAX_CODED, NODE_BYTES
from appliance.export.refusal import RefusedError, Why
from appliance.trust.canonical import LARGEST_INTEGER

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CONTEXT: Final = b"appliance-block\x01"
NOTHING_BEFORE: Final = bytes(32)
_HEADER: Final = struct.Struct(">16s8sIBBHQQQIIQ32s32s")
HEADER_BYTES: Final = _HEADER.size
SIGNATURE_BYTES: Final = 64
MAX_PAYLOAD: Final = MAX_CODED - HEADER_BYTES - SIGNATURE_BYTES
#: A payload is never longer than this before coding, so that a few bytes cannot become very many.
MAX_RAW: Final = 1 << 20
#: Nor more records: each costs a receiver some microseconds, and other nodes wait for the end of a block.
MAX_RECORDS: Final = 4096


class BlockKind(IntEnum):
    """What a block's payload is."""

    RECORDS = 1
    DROPS = 2
    OPENING = 3


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The fields of a header; ``time`` in milliseconds since 1970, lengths in bytes."""

    node: bytes
    epoch: int
    kind: BlockKind
    coding: int
    block: int
    first: int
    last: int
    raw_length: int
    length: int
    time: int
    sha256: bytes
    previous: bytes

    @property
    def records(self) -> int:
        """How many sequence numbers the block accounts for."""
        return self.last + 1 - self.first

    @property
    def data(self) -> bytes:
        """The header as it is signed."""
        return _HEADER.pack(
            CONTEXT,
            self.node,
            self.epoch,
            self.kind,
            self.coding,
            0,
            self.block,
            self.first,
            self.last,
            self.raw_length,
            self.length,
            self.time,
            self.sha256,
            self.previous,
        )

    @property
    def hash(self) -> bytes:
        """What the next header names as the one before it."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True, slots=True)
class Block:
    """A header, its signature, and the payload as it is sent."""

    header: BlockHeader
    signature: bytes
    payload: bytes

    @property
    def data(self) -> bytes:
        """The bytes that are coded, kept and carried."""
        return self.header.data + self.signature + self.payload


def sign_block(header: BlockHeader, payload: bytes, key: Ed25519PrivateKey) -> Block:
    """The block of a header that already describes the payload."""
    if len(payload) != header.length or len(payload) > MAX_PAYLOAD or header.raw_length > MAX_RAW:
        raise ValueError("the header does not describe this payload, or it is too long")
    return Block(header, key.sign(header.data), payload)


def parse_block(data: bytes, *, kept: bool = False) -> Block:
    """Read a block; its signature is not checked.

    Args:
        data: its bytes.
        kept: it was checked before it was kept, and read with a checksum: its payload is not hashed again.

    Raises:
        RefusedError: ``MALFORMED``, ``PAYLOAD_ALTERED``.
    """
    if len(data) < HEADER_BYTES + SIGNATURE_BYTES:
        raise RefusedError(Why.MALFORMED, f"{len(data)} bytes")
    fields = _HEADER.unpack(data[:HEADER_BYTES])
    context, node, epoch, kind, coding, zero, *rest = fields
    if context != CONTEXT or kind not in tuple(BlockKind) or coding > 1 or zero:
        raise RefusedError(Why.MALFORMED, "no block of version 1")
    header = BlockHeader(node, epoch, BlockKind(kind), coding, *rest)
    signature, payload = data[HEADER_BYTES:][:SIGNATURE_BYTES], data[HEADER_BYTES + SIGNATURE_BYTES :]
    if header.length != len(payload) or header.length > MAX_PAYLOAD or header.raw_length > MAX_RAW:
        raise RefusedError(Why.MALFORMED, f"{len(payload)} bytes of payload")
    if not _counts(header):
        raise RefusedError(Why.MALFORMED, f"records {header.first} to {header.last}")
    if not kept and hashlib.sha256(payload).digest() != header.sha256:
        raise RefusedError(Why.PAYLOAD_ALTERED, f"block {header.block}")
    return Block(header, signature, payload)


def verify_block(block: Block, key: Ed25519PublicKey) -> None:
    """Refuse a block that the node's key did not sign.

    Raises:
        RefusedError: ``SIGNATURE_FORGED``.
    """
    try:
        key.verify(block.signature, block.header.data)
    except InvalidSignature as fault:
        raise RefusedError(Why.SIGNATURE_FORGED, f"block {block.header.block}") from fault


def _counts(header: BlockHeader) -> bool:
    """Whether its numbers are possible: no sequence in an opening, some in every other block, not too many.

    Ledgers, lines and events are JSON, whose readers hold no larger numbers.
    """
    if max(header.block, header.first, header.last) > LARGEST_INTEGER:
        return False
    if len(header.node) != NODE_BYTES or header.first < 1:
        return False
    if header.kind is BlockKind.OPENING:
        return header.records == 0
    return header.records >= 1 and (header.kind is BlockKind.DROPS or header.records <= MAX_RECORDS)
