"""Records into the spool: none waits for the line, none is dropped without a signed word."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.errors import SpoolFull
from appliance.export.block import Block, BlockKind, parse_block
from appliance.export.checkpoint import read_checkpoint
from appliance.export.exporter import LINGER, STANDSTILL, Exporter, Moment
from appliance.export.payload import MAX_RECORD, records_of, statement_of
from appliance.export.segments import FrameKind, Segments
from appliance.export.spool import FOR_LAST, MIN_LIMIT, RESERVE, Spool
from tests.unit.export.disk import HOME, empty_disk, on_disk
from tests.unit.export.nodes import NOW, chance, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = identity()


def at(seconds: float) -> Moment:
    return Moment(seconds, NOW + int(seconds * 1000))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(str(tmp_path), WHO.sender, limit=MIN_LIMIT, segment=1 << 20, new=True)
    yield made
    made.close()


def kept(spool: Spool) -> list[Block]:
    found, block, near = [], 0, None
    while (stored := spool.read(block, near)) is not None:
        found.append(parse_block(stored.data))
        block, near = stored.header.block + 1, stored.end
    return found


def test_a_record_waits_a_quarter_of_a_second_for_others(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0))
    assert exporter.due(at(5)) is None
    assert exporter.offer(b"one", at(5))
    assert exporter.due(at(5)) == LINGER == 0.25
    assert exporter.offer(b"two", at(5.2))
    exporter.tick(at(5.24))
    assert len(kept(spool)) == 1
    exporter.tick(at(5.25))
    assert records_of(kept(spool)[1]) == [b"one", b"two"]
    assert exporter.due(at(6)) is None


def test_nothing_may_leave_before_it_is_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = empty_disk()
    on_disk(monkeypatch, disk)
    spool = Spool(HOME, WHO.sender, limit=MIN_LIMIT, new=True)
    exporter = Exporter(WHO, spool, at(0))
    assert exporter.passes.end == 1
    exporter.offer(b"one", at(1))
    exporter.seal(at(1))
    assert exporter.passes.end == 1
    exporter.sync(at(1))
    assert exporter.passes.end == 2
    (file,) = disk.folder.names.values()
    assert file.safe == file.data


def test_every_start_is_an_epoch_that_cites_the_last_hash(spool: Spool) -> None:
    first = Exporter(WHO, spool, at(0), version="0.1.0")
    first.offer(b"one", at(0))
    first.tick(at(1))
    second = Exporter(WHO, spool, at(2))
    assert (first.epoch, second.epoch) == (NOW // 1000, NOW // 1000 + 2)
    _, one, opening = kept(spool)
    assert opening.header.previous == one.header.hash
    assert statement_of(kept(spool)[0]) == {"reason": "start", "version": "0.1.0"}


@pytest.mark.parametrize(
    ("wall", "epochs"),
    [
        (0, (1, 2)),
        (NOW, (NOW // 1000, NOW // 1000 + 1)),
        (1 << 60, (1, 2)),
    ],
    ids=["a clock that was never set", "within one second", "a clock far off"],
)
def test_epochs_ascend_whatever_the_clock_says(spool: Spool, wall: int, epochs: tuple[int, int]) -> None:
    assert tuple(Exporter(WHO, spool, Moment(0, wall)).epoch for _ in range(2)) == epochs


def test_a_clock_that_jumps_back_opens_the_next_epoch(spool: Spool) -> None:
    assert Exporter(WHO, spool, Moment(0, NOW)).epoch == NOW // 1000
    assert Exporter(WHO, spool, Moment(1, NOW - 10**9)).epoch == NOW // 1000 + 1


def test_a_node_restored_from_an_old_state_opens_an_epoch_of_its_own(
    spool: Spool, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    saved = tmp_path_factory.mktemp("saved") / "spool"
    Exporter(WHO, spool, at(0))
    shutil.copytree(tmp_path, saved)
    went_on = [Exporter(WHO, spool, at(second)).epoch for second in (10, 20, 30)]
    restored = Spool(str(saved), WHO.sender, limit=MIN_LIMIT)
    assert Exporter(WHO, restored, at(40)).epoch not in went_on
    restored.close()


def fill(exporter: Exporter, count: int, second: float = 1.0) -> list[bool]:
    """Offers records of 60 kB that do not compress."""
    return [exporter.offer(chance(number).randbytes(60_000), at(second)) for number in range(count)]


def wait(exporter: Exporter, count: int, second: float = 1.0) -> None:
    """Gives the same ones, which could wait."""
    for number in range(count):
        exporter.take(chance(number).randbytes(60_000), at(second))


def sequences(blocks: list[Block], *kinds: BlockKind) -> list[int]:
    chosen = [each.header for each in blocks if each.header.kind in kinds]
    return [each for header in chosen for each in range(header.first, header.last + 1)]


def test_a_full_spool_drops_and_says_so_in_the_chain(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0))
    taken = fill(exporter, 300)
    assert taken == sorted(taken, reverse=True)
    assert exporter.dropping
    assert spool.size <= MIN_LIMIT
    exporter.checkpoint({}, at(2))
    blocks = kept(spool)
    (drop,) = (each for each in blocks if each.header.kind is BlockKind.DROPS)
    lost = taken.count(False)
    assert drop.header.records == lost
    stated = statement_of(drop)
    assert (stated["reason"], stated["bytes"]) == ("spool-full", 60_000 * lost)
    assert sequences(blocks, BlockKind.RECORDS, BlockKind.DROPS) == list(range(1, 301))
    assert exporter.next_sequence == 301
    assert spool.state.dropped == lost


def test_what_was_sent_makes_room_and_records_are_kept_again(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0))
    fill(exporter, 200)
    exporter.sync(at(1))
    exporter.passes.next = [exporter.passes.end] * 3
    assert exporter.offer(b"kept again", at(2))
    exporter.tick(at(3))
    *_, drop, last = kept(spool)
    assert drop.header.kind is BlockKind.DROPS
    assert records_of(last) == [b"kept again"]
    assert last.header.first == 201


def test_while_the_spool_is_full_statements_do_not_fill_it(spool: Spool) -> None:
    """One for each checkpoint, however many records are dropped."""
    exporter = Exporter(WHO, spool, at(0))
    fill(exporter, 200)
    size = spool.size
    for second in range(10):
        for _ in range(500):
            assert not exporter.offer(b"dropped", at(second))
        exporter.checkpoint({}, at(second))
    assert spool.size - size < 10 * 2000
    assert len([each for each in kept(spool) if each.header.kind is BlockKind.DROPS]) == 10
    assert spool.state.dropped == exporter.next_sequence - 1 - len(
        sequences(kept(spool), BlockKind.RECORDS)
    )


def test_by_policy_nothing_is_dropped_and_the_export_stops(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0), stop_when_full=True)
    with pytest.raises(SpoolFull):
        wait(exporter, 300)
    exporter.sync(at(1))
    assert sequences(kept(spool), BlockKind.DROPS) == []
    assert exporter.next_sequence == len(sequences(kept(spool), BlockKind.RECORDS)) + 1


def test_by_policy_what_could_not_wait_ends_the_export_and_is_in_its_last_word(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0), stop_when_full=True)
    assert exporter.full is None
    dropped = fill(exporter, 300).count(False)
    assert isinstance(exporter.full, SpoolFull)
    exporter.checkpoint({}, at(1), last=True)
    assert sequences(kept(spool), BlockKind.DROPS) == list(range(301 - dropped, 301))


@pytest.mark.parametrize("stop", [False, True])
def test_in_a_full_spool_only_what_is_too_long_is_told_to_be(spool: Spool, stop: bool) -> None:
    with pytest.raises(SpoolFull):
        wait(Exporter(WHO, spool, at(0), stop_when_full=True), 300)
    exporter = Exporter(WHO, spool, at(1), stop_when_full=stop)
    long, short = bytes(MAX_RECORD + 1), b"short"
    for record in (long, short, long, short):
        assert not exporter.offer(record, at(2))
    assert (exporter.full is not None) is stop
    exporter.checkpoint({}, at(3))
    told = [each for each in kept(spool) if each.header.kind is BlockKind.DROPS]
    assert [(statement_of(each)["reason"], each.header.records) for each in told] == [
        ("too-long", 1),
        ("spool-full", 3),
    ]


def test_checkpoints_leave_room_to_say_what_is_dropped_however_long_nothing_leaves(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours of checkpoints in a full spool, records being dropped between them; then a restart."""
    monkeypatch.setattr(spool._log, "sync", lambda: None)
    exporter = Exporter(WHO, spool, at(0))
    fill(exporter, 200)
    for second in range(2000):
        exporter.offer(b"dropped", at(second))
        assert exporter.checkpoint({}, at(second)) or second == 0
    exporter.checkpoint({}, at(9000), last=True)
    assert not exporter.dropping
    assert spool.size <= MIN_LIMIT - RESERVE // 16
    assert sequences(kept(spool), BlockKind.RECORDS, BlockKind.DROPS) == list(range(1, 2201))
    again = Exporter(WHO, spool, at(9001))
    assert spool.state.epoch == again.epoch


def test_the_last_room_is_for_the_last_word(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool._log, "sync", lambda: None)
    exporter = Exporter(WHO, spool, at(0))
    fill(exporter, 200)
    while spool.has_room(4096, (0, 0, 0), leaving=FOR_LAST):
        spool.note(b"x" * 4000, (0, 0, 0), NOW)
    exporter.checkpoint({}, at(2))
    assert exporter.dropping
    exporter.checkpoint({}, at(3), last=True)
    assert not exporter.dropping


def test_full_spools_are_drained_even_where_no_word_has_room(spool: Spool) -> None:
    """Nothing is in the epoch before its opening; until there is room, what comes is counted."""
    exporter = Exporter(WHO, spool, at(0))
    fill(exporter, 300)
    exporter.checkpoint({}, at(1))
    while spool.has_room(4096, (0, 0, 0), leaving=0):
        spool.note(b"x" * 4000, (0, 0, 0), NOW)
    size, before = spool.size, len(kept(spool))
    again = Exporter(WHO, spool, at(2))
    assert not again.offer(b"dropped", at(3))
    assert again.checkpoint({}, at(3)) is None
    assert spool.size == size
    assert again.passes.due(3) == 0
    assert again.passes.end == before
    again.passes.next = [before] * 3
    assert again.offer(b"kept", at(4))
    again.checkpoint({}, at(4))
    opening, drop, last = kept(spool)[-3:]
    assert (opening.header.kind, opening.header.epoch) == (BlockKind.OPENING, again.epoch)
    assert drop.header.records == 1
    assert records_of(last) == [b"kept"]


def test_by_policy_a_start_in_a_full_spool_sends_first_and_then_goes_on(spool: Spool) -> None:
    """Else no start after such an end would take a record ever again."""
    with pytest.raises(SpoolFull):
        wait(Exporter(WHO, spool, at(0), stop_when_full=True), 300)
    again = Exporter(WHO, spool, at(10), stop_when_full=True)
    assert not again.take(b"waits", at(11), "journal", "1")
    again.passes.next = [again.passes.end] * 3
    assert again.take(b"waits", at(12), "journal", "1")
    with pytest.raises(SpoolFull):
        wait(again, 300, 13.0)


def test_by_policy_such_a_start_ends_where_nothing_leaves(spool: Spool) -> None:
    with pytest.raises(SpoolFull):
        wait(Exporter(WHO, spool, at(0), stop_when_full=True), 300)
    again = Exporter(WHO, spool, at(0), stop_when_full=True)
    for second in (1, STANDSTILL - 1, 2 * STANDSTILL - 3):
        assert not again.take(b"waits", at(second), "journal", "1")
        again.passes.next[0] += 1  # a block left meanwhile
    assert not again.take(b"waits", at(2 * STANDSTILL - 2), "journal", "1")
    with pytest.raises(SpoolFull):
        again.take(b"waits", at(3 * STANDSTILL), "journal", "1")


def test_who_finds_the_spool_full_is_told_the_option_that_there_is(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0), stop_when_full=True)
    with pytest.raises(SpoolFull) as caught:
        wait(exporter, 300)
    assert "(--spool)" in str(caught.value.hint)


def test_a_record_that_is_too_long_is_dropped_by_its_own_reason(spool: Spool) -> None:
    exporter = Exporter(WHO, spool, at(0))
    assert exporter.offer(b"before", at(1))
    assert not exporter.offer(bytes(MAX_RECORD + 1), at(1))
    assert exporter.offer(b"after", at(1))
    exporter.tick(at(2))
    _, before, drop, after = kept(spool)
    assert (records_of(before), records_of(after)) == ([b"before"], [b"after"])
    assert statement_of(drop)["reason"] == "too-long"
    assert (drop.header.first, after.header.first) == (2, 3)


def test_a_full_disk_loses_no_block_and_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written last, the chain goes on with the very block that did not fit."""
    for room in range(0, 4000, 130):
        disk = empty_disk()
        on_disk(monkeypatch, disk)
        spool = Spool(HOME, WHO.sender, limit=MIN_LIMIT, new=True)
        disk.room = sum(spool._log.sizes.values()) + room
        exporter = Exporter(WHO, spool, at(0))
        taken = []
        for number in range(20):
            taken.append(exporter.offer(chance(number).randbytes(300), at(number)))
            exporter.tick(at(number + 0.5))
        exporter.checkpoint({}, at(30))
        assert False in taken
        disk.room = 1 << 40
        taken.append(exporter.offer(b"room again", at(40)))
        exporter.checkpoint({}, at(41))
        blocks = kept(spool)
        assert sequences(blocks, BlockKind.RECORDS, BlockKind.DROPS) == list(range(1, 22))
        assert len(sequences(blocks, BlockKind.RECORDS)) == taken.count(True)
        assert exporter.passes.end == len(blocks)
        assert [each.header.block for each in blocks] == list(range(len(blocks)))


def test_a_checkpoint_speaks_of_everything_taken_so_far(spool: Spool, tmp_path: Path) -> None:
    exporter = Exporter(WHO, spool, at(0))
    exporter.offer(b"one", at(1))
    numbered = exporter.checkpoint({"ruleset": "a" * 64}, at(1.1))
    assert numbered
    stated = read_checkpoint(numbered[1], WHO.sender.key)
    assert (stated.number, stated.next_block, stated.next_sequence) == (0, 2, 2)
    assert stated.hash == kept(spool)[-1].header.hash
    assert (stated.limit, stated.oldest, stated.digests) == (MIN_LIMIT, 0, {"ruleset": "a" * 64})
    again = exporter.checkpoint({}, at(2))
    assert again
    assert again[0] == 1
    log = Segments(str(tmp_path))
    found = [each.data for each in log.frames() if each.kind == FrameKind.CHECKPOINT]
    log.close()
    assert found == [numbered[1], again[1]]
