"""Hostile packets, blocks and checkpoints of the export: none is believed, whoever made them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportIdentityInvalid
from appliance.export.block import parse_block, verify_block
from appliance.export.identity import parse_identity, parse_sender
from appliance.export.packet import PacketKind, parse_packet
from appliance.export.payload import check_payload
from appliance.export.reception import Reception
from appliance.export.refusal import RefusedError
from appliance.export.symbols import code
from appliance.trust.canonical import canonical_bytes
from tests.corpus.groups import cases
from tests.unit.export.nodes import Node, chance, identity

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = Node()
BLOCK = NODE.block(b"one", b"two")
KEY = NODE.identity.sender.key
TAG_KEY = NODE.identity.tag_key


@pytest.mark.group(7)
def test_random_bytes_under_the_right_tag_are_never_a_block(count_inputs: Callable[[int], None]) -> None:
    """Whoever has the tag's key, as every node's receiver does, gets no further than the signature."""
    luck = chance(7)
    made = Reception([NODE.identity.sender])
    tried = 400
    for number in range(tried):
        data = luck.randbytes(luck.choice([1, 8, 199, 200, 201, 1400, 1401, 9000]))
        if number % 2:
            data = BLOCK.data[: 200 * luck.randrange(2)] + data
        for each in code(PacketKind.BLOCK, NODE.identity.node, 1, number, data, tag_key=TAG_KEY):
            assert made.take(each) is None, "ACCEPTED"
    count_inputs(tried)


@pytest.mark.group(7)
def test_random_symbols_under_one_header_are_never_a_block(count_inputs: Callable[[int], None]) -> None:
    luck = chance(8)
    made = Reception([NODE.identity.sender])
    good = [parse_packet(each, TAG_KEY) for each in NODE.datagrams(NODE.forged(BLOCK))]
    tried = 0
    for _ in range(100):
        for each in luck.sample(good, len(good)):
            symbol = luck.randbytes(len(each.symbol))
            header = NODE.datagrams(BLOCK)[each.index][:40]
            tag = hashlib.blake2b(header + symbol, digest_size=16, key=TAG_KEY, person=b"appliance-packet")
            assert made.take(header + tag.digest() + symbol) is None, "ACCEPTED"
            tried += 1
    count_inputs(tried)


@pytest.mark.group(7)
def test_every_cut_of_a_block_is_refused(count_inputs: Callable[[int], None]) -> None:
    for end in range(len(BLOCK.data)):
        with pytest.raises(RefusedError):
            check_payload(parse_block(BLOCK.data[:end]))
    count_inputs(len(BLOCK.data))


@pytest.mark.group(8)
@pytest.mark.parametrize("other", ["gpu-02", "gpu-03"])
def test_a_block_by_another_enrolled_node_under_this_ones_number_is_refused(other: str) -> None:
    clone = Node(replace(identity(other), node=NODE.identity.node, tag_key=TAG_KEY))
    made = Reception([NODE.identity.sender, identity(other).sender])
    for each in clone.datagrams(clone.block(b"forged")):
        assert made.take(each) is None, "ACCEPTED"


@pytest.mark.group(8)
def test_a_signature_over_a_checkpoint_serves_no_block_and_the_other_way_round() -> None:
    stated = NODE.signed(NODE.checkpoint())
    crossed = replace(BLOCK, signature=stated[-64:])
    with pytest.raises(RefusedError):
        verify_block(crossed, KEY)
    made = Reception([NODE.identity.sender])
    body = BLOCK.header.data + BLOCK.signature
    for each in code(PacketKind.CHECKPOINT, NODE.identity.node, 1, 0, body, tag_key=TAG_KEY):
        assert made.take(each) is None, "ACCEPTED"


@pytest.mark.group(10)
def test_an_epoch_that_was_recorded_and_is_sent_again_delivers_nothing(
    count_inputs: Callable[[int], None],
) -> None:
    node = Node()
    node.many(3)
    recorded = node.stream() + node.checkpoint_datagrams(node.checkpoint())
    made = Reception([node.identity.sender])
    for each in recorded:
        if (arrival := made.take(each)) is not None:
            made.accept(arrival)
    later = Reception(made.senders.values(), made.ledgers)
    assert all(later.take(each) is None for each in recorded), "ACCEPTED"
    count_inputs(len(recorded))


def sender_with(**changes: object) -> bytes:
    values = {
        "format": 1,
        "type": "appliance-export-sender",
        "name": "gpu-01",
        "node": "01" * 8,
        "public": "ssh-ed25519 " + "A" * 68,
        "tag": "02" * 32,
    }
    return canonical_bytes({**values, **changes})


SENDERS = {
    "not JSON": b"x",
    "too long": sender_with(name="a" * 5000),
    "a weak key": sender_with(
        public="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    ),
    "no key": sender_with(),
    "a name with a path in it": sender_with(name="../gpu-01"),
    "a name with an escape": sender_with(name="gpu\x1b[2J"),
    "another type": sender_with(type="appliance-export-identity"),
    "another format": sender_with(format=2),
    "an unknown key": sender_with(more=1),
    "a short node": sender_with(node="01"),
    "a short tag": sender_with(tag="02"),
    "a secret one": NODE.identity.data,
}


@pytest.mark.parametrize("data", cases(8, SENDERS))
def test_a_senders_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ExportIdentityInvalid):
        parse_sender(data)


@pytest.mark.group(8)
def test_a_public_file_is_no_secret_one() -> None:
    with pytest.raises(ExportIdentityInvalid):
        parse_identity(NODE.identity.sender.data)


@pytest.mark.group(8)
@pytest.mark.control
def test_true_files_packets_and_blocks_are_believed() -> None:
    assert parse_identity(NODE.identity.data).data == NODE.identity.data
    assert parse_sender(NODE.identity.sender.data).data == NODE.identity.sender.data
    made = Reception([NODE.identity.sender])
    arrivals = [made.take(each) for each in NODE.datagrams(BLOCK)]
    assert [each.block for each in arrivals if each] == [BLOCK]
