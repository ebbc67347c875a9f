"""Records to blocks and back: nothing is left out, doubled or reordered, and no block is too long."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.export.block import MAX_PAYLOAD, NOTHING_BEFORE, BlockKind
from appliance.export.building import BlockBuilder, Head
from appliance.export.packet import MAX_CODED
from appliance.export.payload import MAX_RECORD, Drop, records_of, statement_of
from tests.unit.export.nodes import NOW, Node, chance, identity, reread

WHO = identity()


def builder(head: Head | None = None) -> BlockBuilder:
    return BlockBuilder(WHO.node, 1, head or Head(), WHO.key)


def blocks_of(records: list[bytes]) -> list[object]:
    """All blocks of these records, each as full as it gets."""
    made, found = builder(), []
    for each in records:
        if not made.add(each):
            found.append(made.seal(NOW))
            assert made.add(each)
    if (last := made.seal(NOW)) is not None:
        found.append(last)
    return found


@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.integers(0, MAX_RECORD).map(lambda size: b"r" * size)),
        max_size=60,
    )
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_records_come_back_as_they_went_in(records: list[bytes]) -> None:
    found, sequence, before = [], 1, NOTHING_BEFORE
    for number, block in enumerate(blocks_of(records)):
        header = reread(block).header
        assert (header.block, header.first, header.previous) == (number, sequence, before)
        assert len(block.data) <= MAX_CODED
        found += records_of(block)
        sequence, before = header.last + 1, header.hash
    assert found == records


@pytest.mark.parametrize("size", [30, 300, 1400, 20_000, MAX_RECORD])
def test_records_that_do_not_compress_fit_and_fill_their_blocks(size: int) -> None:
    luck = chance(size)
    records = [luck.randbytes(size) for _ in range(3 * MAX_PAYLOAD // size + 2)]
    blocks = blocks_of(records)
    assert [each for block in blocks for each in records_of(block)] == records
    for block in blocks[:-1]:
        room = MAX_PAYLOAD - len(block.payload)
        assert 0 <= room <= size + size // 8 + 5 + 200


def test_records_that_compress_fill_a_block_up_to_a_mebibyte() -> None:
    (first, *_) = blocks_of([b"the same line again, and again, and again" * 8] * 10_000)
    assert 1_000_000 < first.header.raw_length <= 1 << 20


def test_a_block_holds_no_more_records_than_receivers_take() -> None:
    blocks = blocks_of([b"{}"] * 10_000)
    assert [len(records_of(reread(block))) for block in blocks] == [4096, 4096, 1808]


def test_nothing_is_sealed_if_nothing_waits() -> None:
    assert builder().seal(NOW) is None


def test_a_drop_stands_for_its_records_in_the_chain() -> None:
    node = Node()
    node.block(b"one")
    drop = node.builder.drop(500, Drop("spool-full", 12_345, NOW - 10, NOW), NOW)
    assert (drop.header.kind, drop.header.first, drop.header.last) == (BlockKind.DROPS, 2, 501)
    assert statement_of(drop) == {
        "reason": "spool-full",
        "bytes": 12_345,
        "since": NOW - 10,
        "until": NOW,
    }
    assert node.builder.head.sequence == 502


def test_a_drop_before_its_turn_is_a_mistake_of_ours() -> None:
    made = builder()
    made.add(b"waiting")
    with pytest.raises(RuntimeError, match="waiting"):
        made.drop(1, Drop("spool-full", 1, NOW, NOW), NOW)


def test_a_record_that_is_too_long_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="too long"):
        builder().add(bytes(MAX_RECORD + 1))


def test_what_does_not_compress_is_sent_as_it_is_and_tried_again_later() -> None:
    noise = [chance(number).randbytes(1000) for number in range(2000)]
    blocks = blocks_of(noise + [b"the same line again " * 40] * 3000)
    codings = [each.header.coding for each in blocks]
    assert codings[:33] == [1, *[0] * 31, 1]
    assert codings[-1] == 1
    assert [each for block in blocks for each in records_of(block)][:2000] == noise
    plain = [each for each in blocks if not each.header.coding]
    assert all(len(each.payload) == each.header.raw_length for each in plain)
    assert all(MAX_PAYLOAD - len(each.payload) < 1004 for each in plain)


def test_a_small_block_says_nothing_about_the_next() -> None:
    made = builder()
    for _ in range(2):
        made.add(b"tiny")
        block = made.seal(NOW)
        assert block
        assert block.header.coding == 1
        assert len(block.payload) > block.header.raw_length
