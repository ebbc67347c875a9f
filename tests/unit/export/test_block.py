"""Blocks: what a signed header and its payload may be."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import replace

import pytest

from appliance.export.block import BlockKind, parse_block, sign_block, verify_block
from appliance.export.payload import check_payload, framed, raw_of, records_of, statement_of
from appliance.export.refusal import RefusedError, Why
from tests.unit.export.nodes import NOW, Node, identity, reread, with_payload


@pytest.fixture
def node() -> Node:
    return Node()


def refused(block_data: bytes) -> Why:
    with pytest.raises(RefusedError) as caught:
        check_payload(parse_block(block_data))
    return caught.value.why


def test_the_layout_is_the_specified_one(node: Node) -> None:
    opening = node.blocks[0].header
    block = node.block(b"one", b"two")
    packed = struct.pack(
        ">16s8sIBBHQQQIIQ32s32s",
        b"appliance-block\x01",
        node.identity.node,
        1,
        1,
        1,
        0,
        1,
        1,
        2,
        14,
        len(block.payload),
        NOW,
        hashlib.sha256(block.payload).digest(),
        hashlib.sha256(opening.data).digest(),
    )
    assert block.data == packed + node.identity.key.sign(packed) + block.payload
    assert len(packed) == 136
    assert zlib.decompress(block.payload) == b"\0\0\0\x03one\0\0\0\x03two"


def test_a_block_is_read_as_it_was_made(node: Node) -> None:
    block = node.block(b"one", b"", b"three")
    assert reread(block) == block
    assert records_of(block) == [b"one", b"", b"three"]
    verify_block(block, node.identity.sender.key)


def test_an_opening_cites_the_last_hash_and_goes_on_counting(node: Node) -> None:
    last = node.block(b"one", b"two")
    opening = node.restart()
    assert opening.header.previous == last.header.hash
    assert (opening.header.epoch, opening.header.block) == (2, 2)
    assert (opening.header.first, opening.header.last, opening.header.records) == (3, 2, 0)
    assert statement_of(opening) == {"reason": "start"}
    assert node.block(b"three").header.first == 3


def test_a_header_signed_by_another_key_is_forged(node: Node) -> None:
    block = node.block()
    with pytest.raises(RefusedError) as caught:
        verify_block(block, identity("gpu-02").sender.key)
    assert caught.value.why is Why.SIGNATURE_FORGED


def test_every_flipped_bit_of_header_and_signature_is_noticed(node: Node) -> None:
    data = node.block().data
    for bit in range(200 * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RefusedError):
            verify_block(parse_block(bytes(damaged)), node.identity.sender.key)


def test_every_flipped_bit_of_the_payload_is_noticed(node: Node) -> None:
    data = node.block().data
    for bit in range(200 * 8, len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert refused(bytes(damaged)) is Why.PAYLOAD_ALTERED


ALTERED = {
    "no sequence 0": {"first": 0, "last": 0},
    "records without records": {"last": 0},
    "an opening with records": {"kind": BlockKind.OPENING},
    "an unknown coding": {"coding": 2},
    "another length": {"length": 3},
    "too long before coding": {"raw_length": (1 << 20) + 1},
    "too many records": {"last": 4097},
}


@pytest.mark.parametrize("changes", ALTERED.values(), ids=ALTERED)
def test_a_header_that_cannot_be_is_malformed(node: Node, changes: dict[str, int]) -> None:
    block = node.block()
    header = replace(block.header, **changes)
    assert refused(header.data + block.signature + block.payload) is Why.MALFORMED


@pytest.mark.parametrize(("place", "value"), [(0, b"appliance-check\x01"), (28, b"\x04"), (30, b"\0\1")])
def test_what_is_no_block_of_this_version_is_malformed(node: Node, place: int, value: bytes) -> None:
    data = bytearray(node.block().data)
    data[place : place + len(value)] = value
    assert refused(bytes(data)) is Why.MALFORMED


def test_too_few_bytes_are_malformed() -> None:
    assert refused(bytes(199)) is Why.MALFORMED


TWO = framed([b"one", b"two"])
PAYLOADS = {
    "not zlib": (b"one", {"raw_length": 14, "last": 2}),
    "more after zlib": (zlib.compress(TWO) + b"x", {"raw_length": 14, "last": 2}),
    "zlib that is cut": (zlib.compress(TWO)[:-1], {"raw_length": 14, "last": 2}),
    "another raw length": (zlib.compress(TWO), {"raw_length": 13, "last": 2}),
    "another count": (zlib.compress(TWO), {"raw_length": 14, "last": 3}),
    "a record that is cut": (zlib.compress(TWO[:-1]), {"raw_length": 13, "last": 2}),
    "a length that is cut": (zlib.compress(TWO + b"\0\0"), {"raw_length": 16, "last": 2}),
    "a bomb": (zlib.compress(bytes(2 << 20)), {"raw_length": 1 << 20, "last": 2}),
    "a record that is too long": (
        zlib.compress(framed([bytes(65_537)])),
        {"raw_length": 65_541, "last": 1},
    ),
    "a statement that is no JSON": (b"{", {"raw_length": 1, "coding": 0, "kind": BlockKind.DROPS}),
    "a statement that is no object": (b"[]", {"raw_length": 2, "coding": 0, "kind": BlockKind.DROPS}),
}


@pytest.mark.parametrize(("payload", "changes"), PAYLOADS.values(), ids=PAYLOADS)
def test_a_payload_that_is_none_is_malformed_even_if_it_was_signed(
    node: Node, payload: bytes, changes: dict[str, int]
) -> None:
    if "last" in changes:  # counted from 1, the first block's own
        assert node.head.sequence == 1
    assert refused(with_payload(node, payload, **changes).data) is Why.MALFORMED


def test_records_and_statements_are_not_asked_of_each_other(node: Node) -> None:
    with pytest.raises(ValueError, match="without records"):
        records_of(node.blocks[0])
    with pytest.raises(ValueError, match="of records"):
        statement_of(node.block())
    assert raw_of(node.blocks[0]) == b'{"reason":"start"}'


def test_a_header_that_describes_another_payload_is_a_mistake_of_ours(node: Node) -> None:
    block = node.block()
    with pytest.raises(ValueError, match="does not describe"):
        sign_block(block.header, block.payload + b"x", node.identity.key)
