"""Records to blocks: a chain that goes on where it stopped.

A block is sealed when it is full, or when its first record has waited long enough; both are for the caller
to ask, who has the clock.  Nothing is kept here but the block that is being filled and the chain's head.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.export.block import (
    MAX_PAYLOAD,
    MAX_RAW,
    MAX_RECORDS,
    NOTHING_BEFORE,
    Block,
    BlockHeader,
    BlockKind,
    sign_block,
)
from appliance.export.payload import LENGTH_BYTES, MAX_RECORD, PLAIN, ZLIB, Drop, length_bytes
from appliance.trust.canonical import canonical_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_LEVEL: Final = 1
#: Header, checksum and the ends of pieces (RFC 1950, RFC 1951), generously.
_SLACK: Final = 64
#: Blocks that are not compressed after one that zlib did not halve.  Logs shrink to a fifth at 4 ms of CPU
#: for a megabyte; what is full of chance costs 25 to lose a third, and to send that third costs 5.
_PLAIN_BLOCKS: Final = 31
_WORTH_IT: Final = 0.5
_TELLING: Final = 4096  # bytes; of shorter ones it says nothing


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain stands: the next block and sequence, and the hash of the header before."""

    block: int = 0
    sequence: int = 1
    hash: bytes = NOTHING_BEFORE

    def after(self, header: BlockHeader) -> Head:
        """The head once this block is kept."""
        return Head(header.block + 1, header.last + 1, header.hash)


class BlockBuilder:
    """Fills one block after another for one epoch of one node.

    A block that was made is part of the chain: it must be kept, or the builder thrown away with it.
    """

    def __init__(self, node: bytes, epoch: int, head: Head, key: Ed25519PrivateKey) -> None:
        self._node, self._epoch, self._key = node, epoch, key
        self.head = head
        self._plain_left = 0
        self._begin()

    def _begin(self) -> None:
        self._zlib = None if self._plain_left else zlib.compressobj(_LEVEL)
        self._pieces: list[bytes] = []
        self._coded = 0  # bytes that came out of the compressor
        self._pending = 0  # bytes that went in since it last gave everything out
        self._raw = 0
        self.waiting = 0

    def add(self, record: bytes) -> bool:
        """Put a record into the block that is being filled; False if the block has no room for it.

        Args:
            record: at most ``MAX_RECORD`` bytes.
        """
        if len(record) > MAX_RECORD:
            raise ValueError("a record is too long")
        if self.waiting >= MAX_RECORDS:
            return False
        size = LENGTH_BYTES + len(record)
        if self._zlib is None:
            if self._coded + size > MAX_PAYLOAD:
                return False
            self._pieces += (length_bytes(record), record)
            self._coded += size
        else:
            if self._raw + size > MAX_RAW or not self._has_room(size, self._zlib):
                return False
            self._put(self._zlib.compress(length_bytes(record) + record))
            self._pending += size
        self._raw += size
        self.waiting += 1
        return True

    def _has_room(self, size: int, coder: zlib._Compress) -> bool:
        if self._coded + _at_most(self._pending + size) <= MAX_PAYLOAD:
            return True
        if self._pending:
            self._put(coder.flush(zlib.Z_SYNC_FLUSH))
            self._pending = 0
        return self._coded + _at_most(size) <= MAX_PAYLOAD

    def _put(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._coded += len(piece)

    def seal(self, time: int) -> Block | None:
        """The block of the records added so far, None if there are none; ``time`` in ms since 1970."""
        if not self.waiting:
            return None
        coding = PLAIN if self._zlib is None else ZLIB
        if self._zlib is None:
            self._plain_left -= 1
        else:
            self._put(self._zlib.flush())
            if self._raw >= _TELLING and self._coded > self._raw * _WORTH_IT:
                self._plain_left = _PLAIN_BLOCKS
        payload, raw, count = b"".join(self._pieces), self._raw, self.waiting
        self._begin()
        return self._sign(BlockKind.RECORDS, payload, coding=coding, raw=raw, count=count, time=time)

    def drop(self, count: int, drop: Drop, time: int) -> Block:
        """The block that stands for so many records that were not kept; no record may be waiting."""
        return self._state(BlockKind.DROPS, drop.data, count, time)

    def open_epoch(self, statement: dict[str, object], time: int) -> Block:
        """The first block of this epoch."""
        return self._state(BlockKind.OPENING, canonical_bytes(statement), 0, time)

    def _state(self, kind: BlockKind, data: bytes, count: int, time: int) -> Block:
        if self.waiting:
            raise RuntimeError("records are waiting: seal their block first")
        return self._sign(kind, data, coding=PLAIN, raw=len(data), count=count, time=time)

    def _sign(
        self, kind: BlockKind, payload: bytes, *, coding: int, raw: int, count: int, time: int
    ) -> Block:
        header = BlockHeader(
            node=self._node,
            epoch=self._epoch,
            kind=kind,
            coding=coding,
            block=self.head.block,
            first=self.head.sequence,
            last=self.head.sequence + count - 1,
            raw_length=raw,
            length=len(payload),
            time=time,
            sha256=hashlib.sha256(payload).digest(),
            previous=self.head.hash,
        )
        block = sign_block(header, payload, self._key)
        self.head = self.head.after(header)
        return block


def _at_most(size: int) -> int:
    """No more bytes than this come out for ``size`` bytes that go in, the end of the stream included.

    A literal of the fixed code takes nine bits at most; no compressor does worse by choice.
    """
    return size + size // 8 + _SLACK
