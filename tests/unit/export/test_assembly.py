"""Symbols to blocks: in any order, each once, within a bound."""

from __future__ import annotations

import pytest

from appliance.export.assembly import Assembled, Assembler
from appliance.export.packet import Packet, PacketKind, parse_packet
from appliance.export.refusal import RefusedError, Why
from appliance.export.symbols import code
from tests.unit.export.nodes import chance

KEY = bytes(32)


def packets(number: int = 1, *, node: bytes = b"nodenode", size: int = 5000) -> tuple[bytes, list[Packet]]:
    data = chance(f"{number}{node!r}").randbytes(size)
    made = code(PacketKind.BLOCK, node, 1, number, data, tag_key=KEY)
    return data, [parse_packet(each, KEY) for each in made]


def add(made: Assembler, *packets: Packet) -> Assembled:
    """Give it symbols of one block together."""
    return made.add(packets[0].coded, {each.index: each.symbol for each in packets})


def test_a_block_is_whole_with_its_last_source_symbol() -> None:
    data, sent = packets()
    made = Assembler()
    assert [add(made, each).data for each in sent[:3]] == [None] * 3
    done = add(made, sent[3])
    assert (done.data, done.repaired, done.duplicates) == (data, False, 0)
    assert (made.size, made.incomplete) == (0, 0)


def test_lost_symbols_are_repaired_and_that_is_said() -> None:
    data, sent = packets()
    made = Assembler()
    results = [add(made, each) for each in reversed(sent[2:])]
    done = next(each for each in results if each.data is not None)
    assert (done.data, done.repaired) == (data, True)


def test_symbols_that_came_together_are_taken_together() -> None:
    data, sent = packets()
    made = Assembler()
    assert made.wanted(sent[0].coded) == 4
    assert add(made, *sent[:3]).data is None
    assert made.wanted(sent[0].coded) == 1
    done = add(made, sent[1], sent[5])
    assert (done.data, done.repaired, done.duplicates) == (data, True, 1)
    assert (done.symbols, done.lost) == (6, 2)
    assert (made.size, made.incomplete) == (0, 0)


def test_the_same_symbol_twice_counts_once() -> None:
    _, sent = packets()
    made = Assembler()
    add(made, sent[0])
    held = made.size
    assert [add(made, sent[0]).duplicates for _ in range(5)] == [1] * 5
    assert made.size == held


def test_what_was_done_with_takes_no_more_symbols_until_it_is_wanted_again() -> None:
    data, sent = packets()
    made = Assembler()
    for each in sent[:4]:
        add(made, each)
    made.done_with(sent[0].coded)
    assert made.wanted(sent[0].coded) == 0
    assert add(made, sent[5]).duplicates == 1
    assert made.incomplete == 0
    made.again(sent[0].coded)
    assert [add(made, each) for each in sent[:4]][-1].data == data


def test_blocks_of_one_number_and_other_contents_do_not_mix() -> None:
    """Two nodes with one key: each block is whole for itself."""
    one, sent = packets(1)
    other = chance(9).randbytes(5000)
    others = [
        parse_packet(each, KEY) for each in code(PacketKind.BLOCK, b"nodenode", 1, 1, other, tag_key=KEY)
    ]
    made, found = Assembler(), []
    for pair in zip(sent[:4], others[:4], strict=True):
        found += [add(made, each).data for each in pair]
    assert [each for each in found if each] == [one, other]


def test_contradicting_symbols_are_forgotten_so_that_the_true_ones_get_their_chance() -> None:
    data, sent = packets()
    made = Assembler()
    add(made, Packet(sent[0].coded, 4, 0, bytes(len(sent[0].symbol))))
    for each in sent[1:3]:
        add(made, each)
    with pytest.raises(RefusedError) as caught:
        add(made, sent[3])
    assert caught.value.why is Why.CONTRADICTORY
    assert (made.size, made.incomplete) == (0, 0)
    assert [add(made, each) for each in sent[:4]][-1].data == data


def test_what_is_incomplete_is_bounded_and_the_oldest_of_the_greediest_gives_way() -> None:
    bound = 40_000
    made = Assembler(bound)
    _, modest = packets(0, node=b"modestly")
    for each in modest[:3]:
        add(made, each)
    for number in range(100):
        _, sent = packets(number)
        for each in sent[:3]:
            add(made, each)
        assert made.size <= bound
    assert made.given_up > 80
    assert add(made, modest[3]).data is not None
