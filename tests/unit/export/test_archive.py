"""A receiver's archive: what was believed is there after any cut, and the ledger with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged, SpaceExhausted
from appliance.export.archive import Archive
from appliance.export.gap_history import Change, Look, look_at
from appliance.export.ledger import MAX_BREAKS, MAX_RUNS, Ledger
from appliance.export.ledger_state import ledger_bytes, parse_ledger
from appliance.export.reception import Arrival, Reception, enter
from appliance.export.runs import MAX_EPOCHS, Run
from appliance.export.segments import FrameKind, Place, Segments
from appliance.trust.canonical import LARGEST_INTEGER
from tests.unit.export.disk import HOME, LogDisk, empty_disk, on_disk, restarted, with_power
from tests.unit.export.nodes import Node, chance, identity
from tests.unit.node.power import Power, PowerCut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def arrivals(node: Node, ledger: Ledger, datagrams: Iterable[bytes]) -> list[Arrival]:
    """What these datagrams make whole, without being kept."""
    made = Reception([node.identity.sender], {node.identity.node: ledger})
    return [each for each in map(made.take, datagrams) if each]


def keep(archive: Archive, found: list[Arrival]) -> None:
    archive.append(found)
    for each in found:
        if each.block:
            enter(archive.ledger, each.block)
        if each.checkpoint:
            archive.ledger.note(each.checkpoint)


def sizable(count: int, *, node: Node | None = None) -> Node:
    made = node or Node()
    for number in range(count):
        made.block(chance(number).randbytes(700))
    return made


def test_an_archive_that_was_closed_knows_what_it_knew(tmp_path: Path) -> None:
    node = sizable(20)
    node.restart()
    sizable(5, node=node)
    some = [each for number, each in enumerate(node.blocks) if number not in (3, 4, 17)]
    archive = Archive(str(tmp_path), node.identity.sender, segment=4000)
    keep(archive, arrivals(node, archive.ledger, node.stream(some[:15])))
    keep(archive, arrivals(node, archive.ledger, node.stream(some[15:])))
    keep(archive, arrivals(node, archive.ledger, node.checkpoint_datagrams(node.checkpoint(oldest=4))))
    archive.news()
    changes, _ = archive.news()
    assert changes == [Change("opened", 3, 4), Change("opened", 17, 17), Change("lost", 3, 3)]
    before = archive.ledger
    archive.close()
    again = Archive(str(tmp_path), node.identity.sender, segment=4000)
    assert again.ledger == before
    again.close()


def test_many_segments_later_only_the_last_is_read(tmp_path: Path) -> None:
    node = sizable(30)
    archive = Archive(str(tmp_path), node.identity.sender, segment=4000)
    for each in node.blocks:
        keep(archive, arrivals(node, archive.ledger, node.datagrams(each)))
    before = archive.ledger
    archive.close()
    first = min(tmp_path.iterdir())
    first.write_bytes(b"not read")
    again = Archive(str(tmp_path), node.identity.sender)
    assert again.ledger == before
    again.close()


def test_gaps_that_were_told_of_are_not_told_of_again_after_a_restart(tmp_path: Path) -> None:
    node = sizable(12)
    archive = Archive(str(tmp_path), node.identity.sender, segment=3000)
    keep(archive, arrivals(node, archive.ledger, node.stream(node.blocks[3:5])))
    assert archive.news() == ([], {})
    assert archive.news() == ([Change("opened", 0, 2)], {})
    assert archive.news() == ([Change("opened", 0, 2)], {})
    archive.told()
    assert archive.news() == ([], {})
    archive.close()
    archive = Archive(str(tmp_path), node.identity.sender, segment=3000)
    assert [archive.news() for _ in range(2)] == [([], {})] * 2
    for each in node.blocks[5:]:
        keep(archive, arrivals(node, archive.ledger, node.datagrams(each)))
    archive.close()
    again = Archive(str(tmp_path), node.identity.sender, segment=3000)
    assert [again.news() for _ in range(2)] == [([], {})] * 2
    again.close()


def test_blocks_of_another_history_are_kept_and_marked(tmp_path: Path) -> None:
    one, other = Node(), Node()
    one.block(b"mine")
    clone = other.block(b"its own")
    archive = Archive(str(tmp_path), one.identity.sender)
    keep(archive, arrivals(one, archive.ledger, one.stream()))
    keep(archive, arrivals(one, archive.ledger, one.datagrams(clone)))
    log = Segments(str(tmp_path))
    kinds = [(frame.kind, frame.data) for frame in log.frames()]
    log.close()
    assert kinds[-1] == (FrameKind.FORK, clone.data)
    archive.close()
    again = Archive(str(tmp_path), one.identity.sender)
    assert again.ledger.forks == archive.ledger.forks != {}
    again.close()


def test_an_archive_of_another_node_is_refused(tmp_path: Path) -> None:
    node = sizable(1)
    archive = Archive(str(tmp_path), node.identity.sender)
    keep(archive, arrivals(node, archive.ledger, node.checkpoint_datagrams(node.checkpoint())))
    archive.close()
    with pytest.raises(ExportLogDamaged):
        Archive(str(tmp_path), identity("gpu-02").sender)


def test_a_full_disk_keeps_nothing_and_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    node = sizable(3)
    disk = empty_disk()
    on_disk(monkeypatch, disk)
    disk.room = 2000
    archive = Archive(HOME, node.identity.sender)
    keep(archive, arrivals(node, archive.ledger, node.datagrams(node.blocks[0])))
    synced = archive.synced
    with pytest.raises(SpaceExhausted):
        archive.append(arrivals(node, archive.ledger, node.stream(node.blocks[1:])))
    assert archive.synced == synced
    disk.room = 1 << 40
    keep(archive, arrivals(node, archive.ledger, node.stream(node.blocks[1:])))
    assert archive.ledger.gaps() == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[LogDisk], Archive]:
    def on(disk: LogDisk) -> Archive:
        on_disk(monkeypatch, disk)
        return Archive(HOME, Node().identity.sender, segment=2500)

    return on


@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("done", [0, 2, 5])
def test_after_a_cut_at_any_step_the_ledger_is_that_of_what_is_kept(
    opened: Callable[[LogDisk], Archive], done: int, half: bool
) -> None:
    """What is gone is missing for the ledger, too: so it comes again with the next pass."""
    node = sizable(8)
    stated = node.checkpoint_datagrams(node.checkpoint())
    batches = [node.stream(node.blocks[number : number + 1]) for number in range(9)] + [stated]

    def receive(disk: LogDisk, first: int, last: int) -> None:
        archive = opened(disk)
        for each in batches[first:last]:
            keep(archive, arrivals(node, archive.ledger, each))

    before = empty_disk()
    receive(before, 0, done)
    counting = with_power(before, Power())
    receive(counting, done, done + 2)
    for step in range(1, counting.power.steps + 1):
        tried = with_power(before, Power(step, half))
        with pytest.raises(PowerCut):
            receive(tried, done, done + 2)
        for left in restarted(tried):
            archive = opened(left)
            log = Segments(HOME)
            kept = [frame.data for frame in log.frames(Place(0, 0)) if frame.kind == FrameKind.BLOCK]
            assert kept == [each.data for each in node.blocks[: len(kept)]]
            assert len(kept) >= done
            archive.ledger.note(node.checkpoint(number=99))
            missing = [(gap.first, gap.last) for gap in archive.ledger.gaps()]
            assert missing == [(len(kept), 8)]
            for each in batches:
                keep(archive, arrivals(node, archive.ledger, each))
            assert archive.ledger.gaps() == []
            assert archive.ledger.breaks == []


def test_a_ledger_s_state_is_read_as_it_was_written() -> None:
    node = sizable(9)
    ledger = Ledger()
    for each in node.blocks[2:4] + node.blocks[7:]:
        ledger.add(each.header)
    ledger.add(node.forged(node.blocks[3], time=1).header)
    ledger.note(node.checkpoint(digests={"ruleset": "a" * 64}, hash=b"x" * 32))
    look = look_at(ledger)
    assert parse_ledger(ledger_bytes(ledger, look)) == (ledger, look)
    assert parse_ledger(b"") == (Ledger(), Look())
    assert ledger.forks
    assert ledger.contradictions


STATE = ledger_bytes(Ledger(), Look())
BROKEN = {
    "no JSON": b"x",
    "another type": STATE.replace(b"export-ledger", b"export-other"),
    "a run that is none": STATE.replace(b'"runs":[]', b'"runs":[{}]'),
    "a range that is none": STATE.replace(b'"missing":[]', b'"missing":[[1]]'),
    "a range of text": STATE.replace(b'"missing":[]', b'"missing":["12"]'),
    "a number that is none": STATE.replace(b'"breaks":[]', b'"breaks":["1"]'),
    "too few alarms": STATE.replace(b'"alarms":[0,0,0,0,0]', b'"alarms":[0,0,0,0]'),
    "a fork that is none": STATE.replace(b'"forks":[]', b'"forks":[{"epoch":1}]'),
    "a fork without runs": STATE.replace(b'"forks":[]', b'"forks":[{"epoch":1,"runs":[{}]}]'),
    "a checkpoint that is none": STATE.replace(b'"newest":null', b'"newest":{}'),
}


def test_a_state_from_before_walls_were_counted_is_read() -> None:
    older = STATE.replace(b',"walls_changed":0', b"").replace(
        b'"alarms":[0,0,0,0,0]', b'"alarms":[0,0,0,0]'
    )
    assert len(older) < len(STATE)
    assert parse_ledger(older) == (Ledger(), Look())


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_state_that_is_none_is_damage(data: bytes) -> None:
    with pytest.raises(ExportLogDamaged):
        parse_ledger(data)


def test_the_largest_ledger_can_be_read_again() -> None:
    """Whoever has a node's key may open as many gaps and epochs as there is room for."""
    step = LARGEST_INTEGER // (MAX_RUNS + 1)
    runs = [
        Run(
            *(step * number, step * number + MAX_EPOCHS),
            *(LARGEST_INTEGER, LARGEST_INTEGER),
            *(bytes(32), bytes(32)),
            [
                (step * number + epoch, (1 << 31) + number * MAX_EPOCHS + epoch)
                for epoch in range(MAX_EPOCHS)
            ],
        )
        for number in range(1, MAX_RUNS + 1)
    ]
    ledger = Ledger(runs=runs, breaks=[LARGEST_INTEGER] * MAX_BREAKS)
    again, look = parse_ledger(ledger_bytes(ledger, look_at(ledger)))
    assert [(each.first, each.last) for each in again.runs] == [(each.first, each.last) for each in runs]
    assert look == look_at(ledger)
    assert [each.epochs[-1] for each in again.runs] == [each.epochs[-1] for each in runs]
