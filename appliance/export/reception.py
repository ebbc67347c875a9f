"""From datagrams to blocks and checkpoints that are believed: everything a receiver decides, and no I/O.

What arrives is judged in this order, and the first thing that is wrong names it: length and version, node,
tag, header, symbols against each other, the block's form, that it is the one its packets name, payload,
signature, records, and its place in the chain.  Whoever drives this keeps what is given to them, and says
so (``accept``) or that they could not (``give_back``); only then the ledger changes.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.export.assembly import DEFAULT_BOUND, Assembler
from appliance.export.block import Block, BlockKind, parse_block, verify_block
from appliance.export.checkpoint import Checkpoint, read_checkpoint, unproven
from appliance.export.ledger import Ledger, Standing
from appliance.export.packet import (
    AlikePackets,
    CodedId,
    PacketKind,
    in_groups,
    mark_of,
    may_be_ours,
    node_of,
)
from appliance.export.payload import check_payload
from appliance.export.refusal import RefusedError, Why
from appliance.trust.canonical import LARGEST_INTEGER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from appliance.export.identity import Sender


@dataclass(frozen=True, slots=True)
class Arrival:
    """A block or checkpoint that is believed; ``data`` are the bytes that prove it."""

    sender: Sender
    coded: CodedId
    data: bytes
    block: Block | None = None
    checkpoint: Checkpoint | None = None
    standing: Standing = Standing.NEW


@dataclass
class NodeCounts:
    """What came of one node: packets, and what became of them; blocks that were repaired.

    ``symbols`` of the blocks that became whole were sent until then, of which so many were lost on the way:
    of the line's losses at least these.
    """

    packets: int = 0
    filling: int = 0
    duplicates: int = 0
    blocks: int = 0
    repaired: int = 0
    symbols: int = 0
    symbols_lost: int = 0
    records: int = 0
    checkpoints: int = 0
    known: int = 0
    refused: Counter[Why] = field(default_factory=Counter)


class Reception:
    """Everything that is known of all senders; ``bound`` in bytes of incomplete blocks.

    A node that nobody enrolled is counted in ``refused`` with what is no packet at all.
    """

    def __init__(
        self,
        senders: Iterable[Sender],
        ledgers: Mapping[bytes, Ledger] | None = None,
        *,
        bound: int = DEFAULT_BOUND,
    ) -> None:
        self.senders = {each.node: each for each in senders}
        self.ledgers = {node: (ledgers or {}).get(node) or Ledger() for node in self.senders}
        self.counts = {node: NodeCounts() for node in self.senders}
        self.refused: Counter[Why] = Counter()
        self._assembler = Assembler(bound)

    @property
    def incomplete(self) -> int:
        return self._assembler.incomplete

    @property
    def given_up(self) -> int:
        return self._assembler.given_up

    def take(self, datagram: bytes) -> Arrival | None:
        """Take one datagram; what it makes whole and new, if it does."""
        return next(iter([*self.take_all([datagram])]), None)

    def take_all(self, datagrams: Iterable[bytes]) -> Iterator[Arrival]:
        """Take what came together; what that makes whole and new.

        The packets of one block are looked at one after the other, wherever they stand.
        """
        for group in in_groups(datagrams):
            ours = [each for each in group if may_be_ours(each)]
            if len(ours) < len(group):
                self.refused[Why.NOT_OURS] += len(group) - len(ours)
            if ours:
                yield from self._alike(ours)

    def _alike(self, datagrams: list[bytes]) -> Iterator[Arrival]:
        """Take packets of one block, or of filling."""
        sender = self.senders.get(node_of(datagrams[0]))
        if sender is None:
            self.refused[Why.UNKNOWN_NODE] += len(datagrams)
            return
        counts = self.counts[sender.node]
        counts.packets += len(datagrams)
        alike = AlikePackets(datagrams[0], sender.tag_key)
        waiting = deque(datagrams)
        while waiting:
            wanted = self._assembler.wanted(alike.coded) if alike.carry else len(waiting)
            if not wanted:
                # Whatever else is said to be of it is thrown away, whether its tag is right or not.
                counts.duplicates += len(waiting)
                return
            symbols = _symbols(alike, waiting, wanted, counts)
            if not alike.carry:
                counts.filling += len(symbols)
            elif symbols and (arrival := self._added(alike.coded, symbols, sender, counts)) is not None:
                yield arrival

    def _added(
        self, coded: CodedId, symbols: Mapping[int, bytes], sender: Sender, counts: NodeCounts
    ) -> Arrival | None:
        """What these symbols make whole and new, if they do."""
        try:
            assembled = self._assembler.add(coded, symbols)
            counts.duplicates += assembled.duplicates
            if assembled.data is None:
                return None
            arrival = judge(sender, coded, assembled.data, self.ledgers[sender.node])
        except RefusedError as refused:
            counts.refused[refused.why] += 1
            return None
        self._assembler.done_with(coded)
        if arrival.standing is Standing.KNOWN:
            counts.known += 1
            return None
        counts.repaired += assembled.repaired
        counts.symbols += assembled.symbols
        counts.symbols_lost += assembled.lost
        return arrival

    def take_whole(self, kind: PacketKind, data: bytes) -> Arrival | None:
        """Take a block or checkpoint that came on a medium; what it is, if it is believed and new."""
        try:
            node, epoch, number = _named(kind, data)
            if (sender := self.senders.get(node)) is None:
                raise RefusedError(Why.UNKNOWN_NODE, node.hex())
        except RefusedError as refused:
            self.refused[refused.why] += 1
            return None
        coded = CodedId(kind, node, epoch, number, mark_of(data), len(data))
        return self.judged_again(Arrival(sender, coded, data))

    def accept(self, arrival: Arrival) -> None:
        """What arrived is on the disk: the ledger has it from now on."""
        ledger, counts = self.ledgers[arrival.sender.node], self.counts[arrival.sender.node]
        if arrival.block is not None:
            enter(ledger, arrival.block)
            counts.blocks += 1
            if arrival.block.header.kind is BlockKind.RECORDS:
                counts.records += arrival.block.header.records
        if arrival.checkpoint is not None:
            ledger.note(arrival.checkpoint)
            counts.checkpoints += 1

    def judged_again(self, arrival: Arrival) -> Arrival | None:
        """What it is now that something that came before it was accepted; None if it is nothing new."""
        counts = self.counts[arrival.sender.node]
        try:
            again = judge(arrival.sender, arrival.coded, arrival.data, self.ledgers[arrival.sender.node])
        except RefusedError as refused:
            if refused.why is Why.LEDGER_FULL:  # it is missing still, and there may be room for it later
                self.give_back(arrival)
            counts.refused[refused.why] += 1
            return None
        if again.standing is Standing.KNOWN:
            counts.known += 1
            return None
        return again

    def give_back(self, arrival: Arrival) -> None:
        """What arrived could not be kept: it is missing still, and welcome when it comes again."""
        self._assembler.again(arrival.coded)


def _symbols(
    alike: AlikePackets, waiting: deque[bytes], wanted: int, counts: NodeCounts
) -> dict[int, bytes]:
    """So many symbols, by index, of the packets that wait, from the first on; what is none is counted."""
    found: dict[int, bytes] = {}
    while waiting and len(found) < wanted:
        try:
            index, symbol = alike.read(waiting.popleft())
        except RefusedError as refused:
            counts.refused[refused.why] += 1
            continue
        if index in found:
            counts.duplicates += 1
        else:
            found[index] = symbol
    return found


def judge(sender: Sender, coded: CodedId, data: bytes, ledger: Ledger) -> Arrival:
    """What the bytes are that were decoded; the same for those that came by packets and on a medium.

    Raises:
        RefusedError: they are not believed.
    """
    if coded.kind is PacketKind.CHECKPOINT:
        checkpoint = read_checkpoint(data, sender.key)
        if (checkpoint.node, checkpoint.epoch, checkpoint.number) != (
            coded.node,
            coded.epoch,
            coded.number,
        ):
            raise RefusedError(Why.OTHER_BLOCK, f"checkpoint {checkpoint.number}")
        known = ledger.newest
        if known and (checkpoint.epoch, checkpoint.number) <= (known.epoch, known.number):
            raise RefusedError(Why.STALE_CHECKPOINT, f"number {checkpoint.number}")
        return Arrival(sender, coded, data, checkpoint=checkpoint)
    block = parse_block(data)
    header = block.header
    if (header.node, header.epoch, header.block) != (coded.node, coded.epoch, coded.number):
        raise RefusedError(Why.OTHER_BLOCK, f"block {header.block}")
    verify_block(block, sender.key)
    check_payload(block)
    return Arrival(sender, coded, data, block=block, standing=ledger.judge(header))


def _named(kind: PacketKind, data: bytes) -> tuple[bytes, int, int]:
    """Node, epoch and number that a block or checkpoint names, before it is believed."""
    if kind is PacketKind.BLOCK:
        header = parse_block(data).header
        return header.node, header.epoch, header.block
    stated = unproven(data)
    return stated.node, stated.epoch, stated.number


def enter(ledger: Ledger, block: Block) -> None:
    """Put a block that is kept into the ledger."""
    standing = ledger.add(block.header)
    if standing is Standing.NEW and block.header.kind is BlockKind.DROPS:
        # Whoever signs what cannot be may name more than the ledger's state has room for.
        ledger.dropped = min(ledger.dropped + block.header.records, LARGEST_INTEGER)
