"""Nodes that export, without disk and network: the real builder, the real code, real keys."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from appliance.export.block import Block, parse_block, sign_block
from appliance.export.building import BlockBuilder, Head
from appliance.export.checkpoint import Checkpoint, sign_checkpoint
from appliance.export.identity import Identity, new_identity
from appliance.export.packet import PacketKind
from appliance.export.symbols import code

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_800_000_000_000


def chance(seed: object) -> random.Random:
    """Chance that is the same in every run."""
    return random.Random(str(seed))  # noqa: S311 - nothing secret


def identity(name: str = "gpu-01") -> Identity:
    """The same name gives the same keys."""
    return new_identity(name, hashlib.shake_256(name.encode()).digest(72))


@dataclass
class Node:
    """One that keeps every block it made."""

    identity: Identity = field(default_factory=identity)
    epoch: int = 1
    head: Head = field(default_factory=Head)
    blocks: list[Block] = field(default_factory=list)
    checkpoints: int = 0

    def __post_init__(self) -> None:
        self.restart(self.epoch)

    def restart(self, epoch: int | None = None) -> Block:
        """Open an epoch; the next one if it is not said."""
        self.epoch = self.epoch + 1 if epoch is None else epoch
        self.builder = BlockBuilder(self.identity.node, self.epoch, self.head, self.identity.key)
        return self._keep(self.builder.open_epoch({"reason": "start"}, NOW))

    def _keep(self, block: Block) -> Block:
        self.head = self.builder.head
        self.blocks.append(block)
        return block

    def block(self, *records: bytes) -> Block:
        """A block of these records."""
        for each in records or (b"record",):
            assert self.builder.add(each)
        sealed = self.builder.seal(NOW)
        assert sealed
        return self._keep(sealed)

    def many(self, count: int) -> list[Block]:
        return [self.block(b"record %d" % number) for number in range(count)]

    def checkpoint(self, **changes: object) -> Checkpoint:
        """What the node would state now, with these fields changed."""
        self.checkpoints += 1
        stated = Checkpoint(
            node=self.identity.node,
            epoch=self.epoch,
            number=self.checkpoints - 1,
            time=NOW,
            next_block=self.head.block,
            next_sequence=self.head.sequence,
            hash=self.head.hash,
            dropped=0,
            oldest=0,
            size=0,
            limit=1 << 30,
        )
        return replace(stated, **changes)  # type: ignore[arg-type] # by the tests' names

    def signed(self, checkpoint: Checkpoint) -> bytes:
        return sign_checkpoint(checkpoint, self.identity.key)

    def datagrams(self, block: Block, percent: int = 20) -> list[bytes]:
        header = block.header
        return code(
            PacketKind.BLOCK,
            header.node,
            header.epoch,
            header.block,
            block.data,
            tag_key=self.identity.tag_key,
            percent=percent,
        )

    def stream(self, blocks: Iterable[Block] | None = None) -> list[bytes]:
        return [each for block in blocks or self.blocks for each in self.datagrams(block)]

    def checkpoint_datagrams(self, checkpoint: Checkpoint) -> list[bytes]:
        return code(
            PacketKind.CHECKPOINT,
            checkpoint.node,
            checkpoint.epoch,
            checkpoint.number,
            self.signed(checkpoint),
            tag_key=self.identity.tag_key,
        )

    def forged(self, block: Block, **changes: object) -> Block:
        """The block with these fields of its header changed, signed by the node's own key all the same."""
        return sign_block(replace(block.header, **changes), block.payload, self.identity.key)  # type: ignore[arg-type]


def with_payload(node: Node, payload: bytes, **changes: object) -> Block:
    """A block that the node's own key signed over any payload."""
    digest = hashlib.sha256(payload).digest()
    block = node.block()
    header = replace(block.header, length=len(payload), sha256=digest, **changes)  # type: ignore[arg-type]
    return sign_block(header, payload, node.identity.key)


def reread(block: Block) -> Block:
    """The block as whoever gets its bytes has it."""
    return parse_block(block.data)
