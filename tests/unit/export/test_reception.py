"""Datagrams to believed blocks: every way to be wrong has its name, and every record its account."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.export.block import Block, BlockKind
from appliance.export.packet import MAX_SYMBOL, PacketKind, filling, parse_packet
from appliance.export.payload import Drop, records_of
from appliance.export.reception import Reception
from appliance.export.refusal import Why
from appliance.export.symbols import code, decode
from tests.unit.export.nodes import NOW, Node, chance, identity, with_payload

if TYPE_CHECKING:
    from collections.abc import Iterable


def reception(*nodes: Node) -> Reception:
    return Reception([each.identity.sender for each in nodes])


def received(made: Reception, datagrams: Iterable[bytes]) -> list[Block]:
    """The blocks that are believed and new, in the order in which they became whole."""
    found = []
    for each in datagrams:
        if (arrival := made.take(each)) is not None:
            made.accept(arrival)
            found += [arrival.block] if arrival.block else []
    return found


def records(blocks: Iterable[Block]) -> list[bytes]:
    kept = [each for each in blocks if each.header.kind is BlockKind.RECORDS]
    return [each for block in kept for each in records_of(block)]


def test_what_is_sent_arrives() -> None:
    node = Node()
    node.many(5)
    made = reception(node)
    assert received(made, node.stream()) == node.blocks
    counts = made.counts[node.identity.node]
    assert (counts.blocks, counts.records, counts.repaired, counts.refused) == (6, 5, 0, {})


def test_nothing_is_known_before_it_is_kept() -> None:
    """What could not be kept is missing still, and is taken when it comes again."""
    node = Node()
    made = reception(node)
    arrival = next(filter(None, map(made.take, node.stream())))
    assert made.ledgers[node.identity.node].runs == []
    assert received(made, node.stream()) == []
    made.give_back(arrival)
    assert received(made, node.stream()) == node.blocks


def test_a_second_pass_is_known_after_the_symbols_are_forgotten() -> None:
    node = Node()
    node.many(3)
    made = reception(node)
    received(made, node.stream())
    again = Reception(made.senders.values(), made.ledgers)
    assert received(again, node.stream()) == []
    assert again.counts[node.identity.node].known == 4


def test_what_came_together_is_taken_as_if_one_by_one() -> None:
    """Blocks of two nodes, all mixed, with copies, damage, garbage, filling and other people's packets."""
    one, other, stranger = Node(), Node(identity("gpu-02")), Node(identity("gpu-03"))
    for node in (one, other, stranger):
        for number in range(6):
            node.block(chance(number).randbytes(9000))
    luck = chance("together")
    sent = one.stream() + other.stream() + stranger.stream() + other.stream()
    sent += one.checkpoint_datagrams(one.checkpoint())
    sent += [filling(one.identity.node, 1, number, one.identity.tag_key) for number in range(5)]
    sent = [each for each in sent if luck.random() < 0.9]
    sent += [each[:-1] + bytes([each[-1] ^ 1]) for each in luck.sample(sent, 9)]
    sent += [each[:40] for each in luck.sample(sent, 3)] + [b"AX", b"", bytes(3000)]
    luck.shuffle(sent)
    together, alone = reception(one, other), reception(one, other)
    found = list(together.take_all(sent))
    assert {(each.coded, each.data) for each in found} == {
        (each.coded, each.data) for each in filter(None, map(alone.take, sent))
    }
    assert len(found) == 15
    assert together.refused == alone.refused
    for node in (one, other):
        counts, single = (made.counts[node.identity.node] for made in (together, alone))
        assert (counts.packets, counts.filling) == (single.packets, single.filling)
        # A damaged one is a duplicate if its block was whole by then, which depends on the order.
        assert counts.duplicates + sum(counts.refused.values()) == single.duplicates + sum(
            single.refused.values()
        )


def test_of_a_block_that_is_whole_no_tag_is_looked_at_any_more() -> None:
    node = Node()
    damaged = [each[:-1] + bytes([each[-1] ^ 1]) for each in node.datagrams(node.blocks[0])]
    made = reception(node)
    counts = made.counts[node.identity.node]
    assert received(made, damaged) == []
    assert (counts.refused, counts.duplicates) == ({Why.TAG_FORGED: len(damaged)}, 0)
    assert received(made, node.stream()) == node.blocks
    before = counts.duplicates
    assert received(made, damaged) == []
    assert (counts.refused, counts.duplicates - before) == (
        {Why.TAG_FORGED: len(damaged)},
        len(damaged),
    )


@pytest.mark.parametrize("together", [True, False])
def test_where_so_many_symbols_are_not_enough_one_more_is_taken(together: bool) -> None:
    """Of one set in two hundred, such as this one, RaptorQ needs another symbol."""
    node = Node()
    block = node.block(chance("more").randbytes(4 * MAX_SYMBOL - 300))
    sent = {each[38]: each for each in node.datagrams(block, 300)}
    what = parse_packet(sent[0], node.identity.tag_key).coded
    few = (0, 2, 9, 15)
    assert what.source_symbols == len(few)
    assert decode(what, {index: sent[index][56:] for index in few}) is None
    made = reception(node)
    wire = [sent[index] for index in (*few, 7)]
    found = list(made.take_all(wire)) if together else [each for each in map(made.take, wire) if each]
    assert [each.block for each in found] == [block]


def test_many_nodes_at_once_are_told_apart() -> None:
    nodes = [Node(identity(f"gpu-{number:02}")) for number in range(5)]
    for number, node in enumerate(nodes):
        node.many(3 + number)
    mixed = [each for node in nodes for each in node.stream()]
    chance(1).shuffle(mixed)
    made = reception(*nodes)
    found = received(made, mixed)
    for node in nodes:
        own = [each for each in found if each.header.node == node.identity.node]
        assert sorted(own, key=lambda each: each.header.block) == node.blocks


# --- every wrong thing has its name --------------------------------------------------------------

NODE = Node()
BLOCK = NODE.block(b"one", b"two")
STRANGER = Node(identity("stranger"))
STRANGERS = STRANGER.block(b"one", b"two")


def packets(data: bytes, **changes: object) -> list[bytes]:
    """The bytes as if they were the block, with these things of the packets' headers changed."""
    header = {"kind": PacketKind.BLOCK, "node": NODE.identity.node, "epoch": 1, "number": 1, **changes}
    return code(data=data, tag_key=NODE.identity.tag_key, **header)  # type: ignore[arg-type]


def flipped(datagrams: list[bytes], place: int) -> list[bytes]:
    return [each[:place] + bytes([each[place] ^ 1]) + each[place + 1 :] for each in datagrams]


def mixed() -> list[bytes]:
    """The symbols of a block, one of which is another's under the right tag."""
    data = chance(1).randbytes(4000)
    true, false = packets(data), packets(data[:-1] + b"x")
    header, symbol = true[2][:40], false[2][56:]
    key = NODE.identity.tag_key
    tag = hashlib.blake2b(header + symbol, digest_size=16, key=key, person=b"appliance-packet")
    return [true[0], true[1], header + tag.digest() + symbol]


STALE = NODE.checkpoint(number=5)
GOOD = NODE.datagrams(BLOCK)
WRONG = {
    "garbage": ([b"garbage" * 20], Why.NOT_OURS, False),
    "a node that nobody enrolled": (STRANGER.datagrams(STRANGERS), Why.UNKNOWN_NODE, False),
    "a flipped bit in a header": (flipped(GOOD, 20), Why.TAG_FORGED, True),
    "a flipped bit in a symbol": (flipped(GOOD, 100), Why.TAG_FORGED, True),
    "a tag by another key": (
        code(PacketKind.BLOCK, NODE.identity.node, 1, 1, BLOCK.data, tag_key=bytes(32)),
        Why.TAG_FORGED,
        True,
    ),
    "symbols of two blocks": (mixed(), Why.CONTRADICTORY, True),
    "no block inside": (packets(b"no block" * 40), Why.MALFORMED, True),
    "another number outside": (packets(BLOCK.data, number=2), Why.OTHER_BLOCK, True),
    "another epoch outside": (packets(BLOCK.data, epoch=2), Why.OTHER_BLOCK, True),
    "another node's block": (packets(STRANGERS.data), Why.OTHER_BLOCK, True),
    "a forged signature": (
        packets(replace(BLOCK, signature=bytes(64)).data),
        Why.SIGNATURE_FORGED,
        True,
    ),
    "a header altered after signing": (
        packets(replace(BLOCK, header=replace(BLOCK.header, previous=bytes(32))).data),
        Why.SIGNATURE_FORGED,
        True,
    ),
    "a payload altered after signing": (packets(BLOCK.data[:-1] + b"x"), Why.PAYLOAD_ALTERED, True),
    "signed nonsense": (packets(with_payload(Node(), b"no zlib").data), Why.MALFORMED, True),
    "a checkpoint's signature forged": (
        packets(NODE.signed(STALE)[:-64] + bytes(64), kind=PacketKind.CHECKPOINT, number=5),
        Why.SIGNATURE_FORGED,
        True,
    ),
    "a checkpoint under another number": (
        packets(NODE.signed(STALE), kind=PacketKind.CHECKPOINT, number=6),
        Why.OTHER_BLOCK,
        True,
    ),
    "a block under a checkpoint's kind": (
        packets(BLOCK.data, kind=PacketKind.CHECKPOINT),
        Why.SIGNATURE_FORGED,
        True,
    ),
}


@pytest.mark.parametrize(("datagrams", "why", "of_node"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_counted_by_its_name_and_changes_nothing(
    datagrams: list[bytes], why: Why, of_node: bool
) -> None:
    made = reception(NODE)
    assert received(made, datagrams) == []
    refused = made.counts[NODE.identity.node].refused if of_node else made.refused
    assert set(refused) == {why}
    assert made.ledgers[NODE.identity.node].runs == []
    assert received(made, GOOD) == [BLOCK]


def test_a_replayed_checkpoint_is_stale() -> None:
    made = reception(NODE)
    received(made, NODE.checkpoint_datagrams(NODE.checkpoint(number=6)))
    received(made, NODE.checkpoint_datagrams(STALE))
    counts = made.counts[NODE.identity.node]
    assert counts.checkpoints == 1
    assert set(counts.refused) == {Why.STALE_CHECKPOINT}
    assert made.ledgers[NODE.identity.node].newest == NODE.checkpoint(number=6)


def test_a_replayed_epoch_is_known_and_changes_nothing() -> None:
    """Packets recorded on the wire and sent again, long after."""
    node = Node()
    node.many(3)
    recorded = node.stream()
    node.restart()
    node.many(3)
    made = reception(node)
    received(made, node.stream())
    later = Reception(made.senders.values(), made.ledgers)
    before = [replace(each, epochs=list(each.epochs)) for each in later.ledgers[node.identity.node].runs]
    assert received(later, recorded) == []
    ledger = later.ledgers[node.identity.node]
    assert (ledger.runs, ledger.forks) == (before, {})


# --- nothing is lost silently --------------------------------------------------------------------


def accounted(node: Node, made: Reception, found: list[Block]) -> None:
    """Every sequence is delivered once, or dropped by a signed statement, or in a gap."""
    ledger = made.ledgers[node.identity.node]
    delivered = [
        each
        for block in found
        if block.header.kind is BlockKind.RECORDS
        for each in range(block.header.first, block.header.last + 1)
    ]
    dropped = [
        each
        for block in found
        if block.header.kind is BlockKind.DROPS
        for each in range(block.header.first, block.header.last + 1)
    ]
    missing = [each for gap in ledger.gaps() for each in range(gap.first_sequence, gap.last_sequence + 1)]
    assert sorted(delivered + dropped + missing) == list(range(1, node.head.sequence))
    assert ledger.dropped == len(dropped)


@given(
    loss=st.sampled_from([0.0, 0.01, 0.05, 0.1, 0.2, 0.6]),
    seed=st.integers(0, 2**32),
    duplicates=st.booleans(),
    flips=st.booleans(),
    restarts=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_record_is_delivered_or_in_a_gap_or_dropped_by_statement(
    loss: float, seed: int, duplicates: bool, flips: bool, restarts: int
) -> None:
    luck = chance(seed)
    node = Node()
    for _ in range(restarts + 1):
        for _ in range(6):
            node.block(*(luck.randbytes(luck.randrange(1, 3000)) for _ in range(luck.randrange(1, 9))))
        drop = node.builder.drop(luck.randrange(1, 50), Drop("spool-full", 1, NOW, NOW), NOW)
        node.blocks.append(drop)
        node.head = node.builder.head
        node.restart()
    sent = node.stream()
    luck.shuffle(sent)
    wire = [each for each in sent if luck.random() >= loss]
    if duplicates:
        wire += luck.sample(wire, len(wire) // 3)
    if flips:
        wire = [each[:-1] + bytes([each[-1] ^ 1]) if luck.random() < 0.02 else each for each in wire]
    made = reception(node)
    found = received(made, wire)
    found += received(made, node.checkpoint_datagrams(node.checkpoint()))
    accounted(node, made, found)
    if not loss and not flips:
        assert {each.header.block for each in found} == set(range(node.head.block))
    # The second pass brings the rest, whatever the first one lost.
    found += received(made, sent)
    accounted(node, made, found)
    assert {each.header.block for each in found} == set(range(node.head.block))
    assert made.ledgers[node.identity.node].gaps() == []
    ordered = sorted(found, key=lambda each: each.header.block)
    assert records(ordered) == records(node.blocks)
