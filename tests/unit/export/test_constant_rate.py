"""A line that is always used alike: the same number of datagrams of one length, whatever is logged."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from appliance.export.packet import (
    EVEN_DATAGRAM,
    MAX_DATAGRAM,
    PacketKind,
    evened,
    filling,
    parse_packet,
)
from appliance.export.refusal import RefusedError, Why
from tests.unit.export.nodes import Node, chance
from tests.unit.export.test_sending import WHO, Line, sizable

if TYPE_CHECKING:
    from pathlib import Path

RATE = 200_000


def volume(line: Line, since: int, until: int) -> list[tuple[int, set[int]]]:
    """By second, how many datagrams left, and of which lengths."""
    found = []
    for second in range(since, until):
        sizes = [len(each) for at, each in line.sent if second <= at < second + 1]
        found.append((len(sizes), set(sizes)))
    return found


def kinds(line: Line) -> Counter[PacketKind]:
    return Counter(parse_packet(each, WHO.tag_key).coded.kind for _, each in line.sent)


def test_volume_is_the_same_whatever_is_logged(tmp_path: Path) -> None:
    for name in ("quiet", "busy"):
        (tmp_path / name).mkdir()
    quiet, busy = (Line(tmp_path / name, rate=RATE, constant=True) for name in ("quiet", "busy"))
    busy.log(b"short", *sizable(4))
    for second in range(1, 45):
        if second % 10 == 0:
            busy.checkpoint()
            busy.log(b"another one")
        quiet.run(second)
        busy.run(second)
    every = volume(quiet, 1, 44)
    assert all(sizes == {EVEN_DATAGRAM} for _, sizes in every)
    assert max(count for count, _ in every) - min(count for count, _ in every) <= 1
    assert volume(busy, 1, 44) == every
    assert every[0][0] == pytest.approx(RATE / EVEN_DATAGRAM, abs=1)
    assert kinds(busy)[PacketKind.BLOCK] > 300
    assert kinds(quiet)[PacketKind.FILLING] > kinds(busy)[PacketKind.FILLING] > 0


def test_what_is_logged_arrives_and_filling_is_only_counted(tmp_path: Path) -> None:
    line = Line(tmp_path, rate=RATE, constant=True)
    line.log(b"one", b"two")
    line.checkpoint()
    line.run(5)
    assert line.found == [b"one", b"two"]
    assert line.gaps == []
    counts = line.receiver.counts[WHO.node]
    assert counts.filling == line.sending.filling > 500
    assert not counts.refused
    assert line.receiver.incomplete == 0


def test_live_records_wait_for_no_filling(tmp_path: Path) -> None:
    line = Line(tmp_path, rate=RATE, constant=True)
    line.run(3)
    line.log(b"live")
    line.run(3.1)
    assert line.found == [b"live"]


def test_the_idle_replay_takes_the_place_of_filling(tmp_path: Path) -> None:
    line = Line(tmp_path, rate=RATE, idle=20_000, constant=True)
    records = sizable(3)
    line.log(*records)
    line.run(605, lambda _: False)
    assert line.found == []
    line.run(630)
    assert sorted(line.found) == sorted(records)
    counts = [count for count, _ in volume(line, 600, 629)]
    assert max(counts) - min(counts) <= 1


def test_every_datagram_is_evened_and_read_as_before() -> None:
    node = Node()
    for size in (1, 100, 1399, 1400, 1401, 5000, 89_000):
        for each in node.datagrams(node.block(chance(size).randbytes(min(size, 60_000)))):
            long = evened(each)
            assert len(long) == EVEN_DATAGRAM <= MAX_DATAGRAM
            assert parse_packet(long, WHO.tag_key) == parse_packet(each, WHO.tag_key)


def test_what_stands_behind_a_symbol_is_zeros_or_the_datagram_is_forged() -> None:
    node = Node()
    long = evened(node.datagrams(node.block())[0])
    for place in range(EVEN_DATAGRAM):
        bad = bytearray(long)
        bad[place] ^= 1
        with pytest.raises(RefusedError):
            parse_packet(bytes(bad), WHO.tag_key)
    with pytest.raises(RefusedError) as caught:
        parse_packet(long[:-1], WHO.tag_key)
    assert caught.value.why is Why.TAG_FORGED


def test_filling_has_a_tag_like_all_else() -> None:
    made = filling(WHO.node, 1, 7, WHO.tag_key)
    packet = parse_packet(made, WHO.tag_key)
    assert (packet.coded.kind, packet.coded.number, packet.repair_symbols) == (PacketKind.FILLING, 7, 0)
    with pytest.raises(RefusedError):
        parse_packet(made, bytes(32))
