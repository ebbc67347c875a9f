"""The spool: what was kept is there after any cut, in its place in the chain, and never too much of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged, SpoolLost
from appliance.export.block import BlockKind, parse_block
from appliance.export.building import Head
from appliance.export.exporter import Exporter, Moment
from appliance.export.payload import Drop
from appliance.export.spool import MIN_LIMIT, RESERVE, Spool
from appliance.export.spool_state import SpoolState, parse_state
from tests.unit.export.disk import HOME, LogDisk, empty_disk, on_disk, restarted, with_power
from tests.unit.export.nodes import NOW, Node, chance, identity
from tests.unit.node.power import Power, PowerCut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.export.block import Block

WHO = identity()
DONE = (1 << 40,) * 3


def spool_in(
    folder: Path | str, *, new: bool = False, limit: int = MIN_LIMIT, segment: int = 1 << 20
) -> Spool:
    return Spool(str(folder), WHO.sender, limit=limit, segment=segment, new=new)


def filled(spool: Spool, blocks: list[Block]) -> None:
    for each in blocks:
        spool.keep(each)
    spool.sync()


def all_of(spool: Spool) -> list[Block]:
    found, block = [], 0
    while (stored := spool.read(block)) is not None:
        found.append(parse_block(stored.data))
        block = stored.header.block + 1
    return found


def large(count: int) -> Node:
    """A node with so many blocks of some 60 kB."""
    node = Node(WHO)
    for number in range(count):
        node.block(chance(number).randbytes(60_000))
    return node


def test_a_spool_goes_on_where_it_stopped(tmp_path: Path) -> None:
    node = Node(WHO)
    node.many(5)
    drop = node.builder.drop(7, Drop("spool-full", 1, NOW, NOW), NOW)
    node.head = node.builder.head
    spool = spool_in(tmp_path, new=True)
    filled(spool, [*node.blocks, drop])
    spool.note(b"checkpoint", (4, 3, 2), NOW)
    spool.close()
    again = spool_in(tmp_path)
    assert again.state == SpoolState(node.head, 1, 7, (4, 3, 2), {}, NOW)
    assert all_of(again) == [*node.blocks, drop]
    assert again.oldest == 0
    again.close()


def test_blocks_are_found_in_any_segment_and_one_after_another(tmp_path: Path) -> None:
    node = large(60)
    spool = spool_in(tmp_path, new=True)
    filled(spool, node.blocks)
    assert len(list(tmp_path.iterdir())) > 2
    for number in (0, 1, 17, 18, 35, 59, 60):
        stored = spool.read(number)
        assert stored
        assert stored.header == node.blocks[number].header
        following = spool.read(number + 1, stored.end)
        assert (following and following.header.block) == (number + 1 if number < 60 else None)
    assert spool.read(61) is None
    spool.close()


def test_the_oldest_give_way_once_they_had_every_pass(tmp_path: Path) -> None:
    node = large(140)
    spool = spool_in(tmp_path, new=True)
    for each in node.blocks[:100]:
        spool.keep(each)
    room = MIN_LIMIT - RESERVE - spool.size
    assert spool.has_room(room, (0, 0, 0))
    assert not spool.has_room(room + 1, (100, 100, 5))
    assert spool.has_room(room + 1, (0, 0, 0), leaving=0)
    assert spool.oldest == 0
    assert spool.has_room(room + 1, (100, 100, 50))
    assert 0 < spool.oldest <= 50
    first = spool.read(0)
    assert first
    assert first.header.block == spool.oldest
    for each in node.blocks[100:]:
        assert spool.has_room(len(each.data), DONE)
        spool.keep(each)
        assert spool.size <= MIN_LIMIT
    assert spool.oldest > 30
    spool.close()
    again = spool_in(tmp_path)
    assert again.state.head == node.head
    again.close()


def test_a_spool_is_founded_once_and_never_begins_again(tmp_path: Path) -> None:
    with pytest.raises(SpoolLost):
        spool_in(tmp_path)
    spool = spool_in(tmp_path, new=True)
    filled(spool, Node(WHO).blocks)
    spool.close()
    with pytest.raises(SpoolLost):
        spool_in(tmp_path, new=True)
    spool_in(tmp_path).close()


def test_another_nodes_spool_is_refused(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, new=True)
    filled(spool, Node(identity("gpu-02")).blocks)
    spool.close()
    with pytest.raises(SpoolLost):
        spool_in(tmp_path)


def test_too_small_a_spool_is_a_mistake_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least"):
        spool_in(tmp_path, new=True, limit=MIN_LIMIT - 1)


def test_a_damaged_segment_is_passed_over_and_the_rest_is_sent(tmp_path: Path) -> None:
    node = large(60)
    spool = spool_in(tmp_path, new=True)
    filled(spool, node.blocks)
    spool.close()
    second = sorted(tmp_path.iterdir())[1]
    data = bytearray(second.read_bytes())
    data[300_000] ^= 1
    second.write_bytes(bytes(data))
    spool = spool_in(tmp_path)
    found = [each.header.block for each in all_of(spool)]
    assert found == sorted(found)
    assert 40 < len(found) < 61
    assert found[-1] == 60
    data[10] ^= 1
    second.write_bytes(bytes(data))
    spool.close()
    spool = spool_in(tmp_path)
    assert [each.header.block for each in all_of(spool)][-1] == 60
    spool.close()


def test_the_state_near_a_time_is_that_of_the_segment_before_it(tmp_path: Path) -> None:
    node = large(60)
    spool = spool_in(tmp_path, new=True)
    for number, each in enumerate(node.blocks):
        spool.keep(each)
        spool.note(b"checkpoint", (0, 0, 0), NOW + number)
    assert spool.since(NOW - 1) == 0
    assert 0 < spool.since(NOW + 40) <= 40
    spool.close()


BROKEN = {
    "no JSON": b"{",
    "another type": SpoolState().data.replace(b"export-spool", b"export-other"),
    "too few passes": SpoolState().data.replace(b"[0,0,0]", b"[0,0]"),
    "no hash": SpoolState().data.replace(b"0" * 64, b"0"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_state_that_is_none_is_damage(data: bytes) -> None:
    assert parse_state(SpoolState().data) == SpoolState(Head())
    with pytest.raises(ExportLogDamaged):
        parse_state(data)


# --- cuts ----------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[LogDisk], Spool]:
    def on(disk: LogDisk) -> Spool:
        on_disk(monkeypatch, disk)
        return Spool(HOME, WHO.sender, limit=MIN_LIMIT, segment=4000, new=not disk.folder.names)

    return on


def one_start(spool: Spool, left: list[bytes], number: int) -> None:
    """A start that takes some records; ``left`` are the hashes of the blocks that may have left."""
    now = Moment(float(number), NOW)
    exporter = Exporter(WHO, spool, now)
    left += hashes(spool, exporter.passes.end)
    for place in range(3):
        assert exporter.offer(b"record %d of start %d" % (place, number) * 40, now)
        exporter.seal(now)
        exporter.sync(now)
        left += hashes(spool, exporter.passes.end)
    exporter.checkpoint({}, now)


def hashes(spool: Spool, end: int) -> list[bytes]:
    return [each.header.hash for each in all_of(spool)[:end]]


@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("done", [0, 1, 3])
def test_after_a_cut_at_any_step_no_number_that_may_have_left_is_used_twice(
    opened: Callable[[LogDisk], Spool], done: int, half: bool
) -> None:
    before, sent = empty_disk(), []
    opened(before)
    for number in range(done):
        one_start(opened(before), sent, number)
    counting = with_power(before, Power())
    one_start(opened(counting), [], done)
    ends = set()
    for step in range(1, counting.power.steps + 1):
        tried, gone = with_power(before, Power(step, half)), list(sent)
        with pytest.raises(PowerCut):
            one_start(opened(tried), gone, done)
        for left in restarted(tried):
            spool = opened(left)
            blocks = all_of(spool)
            kept = {each.header.hash for each in blocks}
            assert set(gone) <= kept, f"cut at step {step}: what left is gone"
            chain = Head()
            for each in blocks:
                assert (each.header.block, each.header.first, each.header.previous) == (
                    chain.block,
                    chain.sequence,
                    chain.hash,
                )
                chain = chain.after(each.header)
            ends.add(chain.block)
            exporter = Exporter(WHO, spool, Moment(99.0, NOW))
            assert exporter.epoch == spool.state.epoch
            assert spool.state.head.block == chain.block + 1
            assert all_of(spool)[-1].header.kind is BlockKind.OPENING
    assert max(ends) == 4 * (done + 1)
