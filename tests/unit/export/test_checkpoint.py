"""Checkpoints: one signed statement in one symbol."""

from __future__ import annotations

import json

import pytest

from appliance.export.checkpoint import read_checkpoint
from appliance.export.packet import MAX_SYMBOL
from appliance.export.refusal import RefusedError, Why
from appliance.trust.canonical import canonical_bytes
from tests.unit.export.nodes import Node, identity


@pytest.fixture
def node() -> Node:
    made = Node()
    made.many(3)
    return made


def test_a_checkpoint_is_read_as_it_was_signed(node: Node) -> None:
    stated = node.checkpoint(dropped=7, oldest=2, digests={"ruleset": "a" * 64, "xdp": "b" * 64})
    assert read_checkpoint(node.signed(stated), node.identity.sender.key) == stated
    assert (stated.next_block, stated.next_sequence) == (4, 4)


def test_the_longest_checkpoint_is_one_symbol(node: Node) -> None:
    most = (1 << 53) - 1
    digests = {f"d{number}-{'x' * 29}": "f" * 64 for number in range(8)}
    numbers = dict.fromkeys(["number", "time", "next_block", "next_sequence", "dropped", "oldest"], most)
    stated = node.checkpoint(**numbers, epoch=2**32 - 1, size=most, limit=most, digests=digests)
    assert len(node.signed(stated)) <= MAX_SYMBOL
    assert read_checkpoint(node.signed(stated), node.identity.sender.key) == stated


def test_a_checkpoint_with_too_much_in_it_is_a_mistake_of_ours(node: Node) -> None:
    digests = {f"d{number}": "f" * 64 for number in range(20)}
    with pytest.raises(ValueError, match="too many"):
        node.signed(node.checkpoint(digests=digests))


def test_every_flipped_bit_is_noticed(node: Node) -> None:
    data = node.signed(node.checkpoint())
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RefusedError) as caught:
            read_checkpoint(bytes(damaged), node.identity.sender.key)
        assert caught.value.why is Why.SIGNATURE_FORGED


def test_another_nodes_key_is_forged(node: Node) -> None:
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(node.signed(node.checkpoint()), identity("gpu-02").sender.key)
    assert caught.value.why is Why.SIGNATURE_FORGED


SIGNED_NONSENSE = {
    "no JSON": b"{",
    "no object": b"[]",
    "spelled otherwise": b'{ "format": 1}',
    "another type": {"type": "appliance-export-sender"},
    "another format": {"format": 2},
    "an unknown key": {"more": 1},
    "no node": {"node": "gpu-01"},
    "an end before the beginning": {"head": {"block": 0, "sequence": 1, "hash": "0" * 64}},
    "a hash that is none": {"head": {"block": 1, "sequence": 1, "hash": "0"}},
    "a name that is none": {"digests": {"Rule Set": "a" * 64}},
    "a digest that is none": {"digests": {"ruleset": "a"}},
    "too many digests": {"digests": {f"d{number}": "a" * 64 for number in range(9)}},
}


@pytest.mark.parametrize("change", SIGNED_NONSENSE.values(), ids=SIGNED_NONSENSE)
def test_what_is_signed_and_no_checkpoint_is_malformed(
    node: Node, change: bytes | dict[str, object]
) -> None:
    body = change
    if isinstance(change, dict):
        body = canonical_bytes({**json.loads(node.signed(node.checkpoint())[:-64]), **change})
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(body + node.identity.key.sign(body), node.identity.sender.key)
    assert caught.value.why is Why.MALFORMED


def test_fewer_bytes_than_a_signature_are_forged(node: Node) -> None:
    with pytest.raises(RefusedError) as caught:
        read_checkpoint(b"x" * 10, node.identity.sender.key)
    assert caught.value.why is Why.SIGNATURE_FORGED
