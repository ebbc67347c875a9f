"""Where sources go on: after any cut each of their records is in the spool, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged
from appliance.export.block import BlockKind, parse_block
from appliance.export.exporter import Exporter, Moment
from appliance.export.payload import records_of
from appliance.export.segments import FrameKind, Segments
from appliance.export.spool import MIN_LIMIT, Spool
from appliance.export.spool_state import SpoolState, parse_positions, parse_state, positions_bytes
from tests.unit.export.disk import HOME, LogDisk, empty_disk, on_disk, restarted, with_power
from tests.unit.export.nodes import NOW, chance, identity
from tests.unit.node.power import Power, PowerCut

if TYPE_CHECKING:
    from pathlib import Path

WHO = identity()
HASH = bytes([7]) * 32


def records(count: int) -> list[bytes]:
    return [b"%d %s" % (number, chance(number).randbytes(300)) for number in range(count)]


def export(count: int, *, new: bool = False) -> None:
    """One start: takes what is not in the spool yet, three records a block, from a source that has all."""
    spool = Spool(HOME, WHO.sender, limit=MIN_LIMIT, new=new)
    exporter = Exporter(WHO, spool, Moment(0, NOW))
    first = int(spool.state.positions.get("source", "0"))
    for number, each in enumerate(records(count)):
        if number < first:
            continue
        assert exporter.take(each, Moment(number, NOW), source="source", position=str(number + 1))
        if number % 3 == 2:
            exporter.seal(Moment(number, NOW))
            exporter.sync(Moment(number, NOW))
    exporter.checkpoint({}, Moment(count, NOW))
    spool.close()


def start_in_vain() -> None:
    """A start that is cut off before it takes anything."""
    spool = Spool(HOME, WHO.sender, limit=MIN_LIMIT)
    Exporter(WHO, spool, Moment(0, NOW))
    spool.close()


def taken() -> list[bytes]:
    log = Segments(HOME)
    blocks = [parse_block(each.data) for each in log.frames() if each.kind == FrameKind.BLOCK]
    log.close()
    return [
        each for block in blocks if block.header.kind is BlockKind.RECORDS for each in records_of(block)
    ]


@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
def test_after_a_cut_at_any_step_each_record_is_taken_once(
    monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    def on(disk: LogDisk) -> None:
        on_disk(monkeypatch, disk)

    before = empty_disk()
    on(before)
    Spool(HOME, WHO.sender, limit=MIN_LIMIT, new=True).close()
    export(4)
    counting = with_power(before, Power())
    on(counting)
    export(11)
    assert taken() == records(11)
    assert counting.power.steps > 10
    for step in range(1, counting.power.steps + 1):
        tried = with_power(before, Power(step, half))
        on(tried)
        with pytest.raises(PowerCut):
            export(11)
        for left in restarted(tried):
            on(left)
            start_in_vain()  # its opening gets the number of a block that was cut off
            export(11)
            assert taken() == records(11)


def test_positions_wait_for_their_block(tmp_path: Path) -> None:
    """What is not on the disk is not settled: a folder would remove files that the spool has not."""
    spool = Spool(str(tmp_path), WHO.sender, limit=MIN_LIMIT, new=True)
    exporter = Exporter(WHO, spool, Moment(0, NOW))
    assert exporter.take(b"one", Moment(0, NOW), source="a", position="1")
    exporter.tick(Moment(0.1, NOW))
    assert exporter.settled == {}
    exporter.tick(Moment(0.3, NOW))
    assert exporter.settled == {"a": "1"}
    spool.close()


def test_a_dropped_record_is_accounted_for_with_its_statement(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), WHO.sender, limit=MIN_LIMIT, new=True)
    exporter = Exporter(WHO, spool, Moment(0, NOW))
    many = [exporter.offer(chance(each).randbytes(60_000), Moment(1, NOW)) for each in range(200)]
    assert not many[-1]
    assert not exporter.offer(b"dropped", Moment(1, NOW), source="a", position="7")
    exporter.sync(Moment(1, NOW))
    assert "a" not in exporter.settled
    exporter.checkpoint({}, Moment(2, NOW))
    assert exporter.settled == {"a": "7"}
    spool.close()


def test_a_source_that_can_wait_loses_nothing_to_a_full_spool(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), WHO.sender, limit=MIN_LIMIT, new=True)
    exporter = Exporter(WHO, spool, Moment(0, NOW))
    big = chance("big").randbytes(60_000)
    count = 0
    while exporter.take(big, Moment(1, NOW), source="a", position=str(count + 1)):
        count += 1
    assert 50 < count < 200
    assert not exporter.dropping
    exporter.sync(Moment(1, NOW))
    assert exporter.settled == {"a": str(count)}
    exporter.passes.next = [exporter.passes.end] * 3
    assert exporter.take(big, Moment(2, NOW), source="a", position=str(count + 1))
    assert spool.state.dropped == 0
    spool.close()


def test_states_and_positions_are_read_as_they_were_written() -> None:
    state = SpoolState(positions={"journal": "s=1;i=2", "audit": "3:4:5"})
    assert parse_state(state.data) == state
    assert parse_positions(positions_bytes(HASH, state.positions)) == (HASH, state.positions)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        SpoolState().data,
        positions_bytes(HASH, {"a": "b"}).replace(b'"b"', b"1"),
        positions_bytes(HASH, {"a": "b"}).replace(b'"block":"07', b'"block":"x7'),
        positions_bytes(HASH, {"a": "b"}).replace(b'"format":1', b'"format":2'),
    ],
)
def test_positions_that_are_none_are_damage(data: bytes) -> None:
    with pytest.raises(ExportLogDamaged):
        parse_positions(data)
