"""The erasure code: whatever is lost up to the repair symbols, the bytes come back, or nothing does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.export.packet import MAX_CODED, PacketKind, parse_packet
from appliance.export.refusal import RefusedError, Why
from appliance.export.symbols import code, decode
from tests.unit.export.nodes import chance

KEY = bytes(32)
NODE = b"nodenode"


def coded(data: bytes, percent: int = 20) -> tuple[object, dict[int, bytes]]:
    """The symbols of some bytes, by index."""
    packets = [
        parse_packet(each, KEY)
        for each in code(PacketKind.BLOCK, NODE, 1, 2, data, tag_key=KEY, percent=percent)
    ]
    return packets[0].coded, {each.index: each.symbol for each in packets}


@given(
    length=st.integers(1, MAX_CODED),
    percent=st.integers(0, 100),
    seed=st.integers(0, 2**32),
    spare=st.integers(2, 10),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_symbols_a_few_more_than_the_source_give_the_bytes_back(
    length: int, percent: int, seed: int, spare: int
) -> None:
    """Two more than k fail once in 16 million times by RFC 6330; spares take that to never."""
    luck = chance(seed)
    data = luck.randbytes(length)
    what, symbols = coded(data, percent)
    keep = min(len(symbols), what.source_symbols + spare)
    chosen = dict(luck.sample(sorted(symbols.items()), keep))
    assert decode(what, chosen) == data


def test_the_first_symbols_are_the_bytes_themselves() -> None:
    data = chance(1).randbytes(3000)
    _, symbols = coded(data)
    assert (symbols[0] + symbols[1] + symbols[2])[:3000] == data
    assert len(symbols) == 3 + 4


def test_the_same_bytes_give_the_same_datagrams() -> None:
    data = chance(2).randbytes(50_000)
    assert code(PacketKind.BLOCK, NODE, 1, 2, data, tag_key=KEY) == code(
        PacketKind.BLOCK, NODE, 1, 2, data, tag_key=KEY
    )


def test_fewer_symbols_than_the_source_give_nothing() -> None:
    what, symbols = coded(bytes(5000))
    assert decode(what, dict(list(symbols.items())[-3:])) is None


def test_one_symbol_of_another_block_is_noticed() -> None:
    what, symbols = coded(chance(3).randbytes(5000))
    _, others = coded(chance(4).randbytes(5000))
    with pytest.raises(RefusedError) as caught:
        decode(what, {**symbols, 2: others[2]})
    assert caught.value.why is Why.CONTRADICTORY
    del symbols[0]
    with pytest.raises(RefusedError) as caught:
        decode(what, {**symbols, 2: others[2]})
    assert caught.value.why is Why.CONTRADICTORY


@pytest.mark.parametrize("percent", [-1, 301])
def test_a_share_of_repair_that_makes_no_sense_is_a_mistake_of_ours(percent: int) -> None:
    with pytest.raises(ValueError, match="percent"):
        code(PacketKind.BLOCK, NODE, 1, 2, b"x", tag_key=KEY, percent=percent)


def test_repair_symbols_never_outgrow_their_index() -> None:
    assert len(code(PacketKind.BLOCK, NODE, 1, 2, bytes(MAX_CODED), tag_key=KEY, percent=300)) == 256
