"""The log on disk: after any cut, everything up to the last sync is there, and nothing that is torn."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged, InProgress, SpaceExhausted
from appliance.export.segment_log import SegmentLog
from appliance.export.segments import MAGIC, FrameKind, Place, Segments, frame_bytes
from tests.unit.export.disk import HOME, LogDisk, empty_disk, on_disk, restarted, with_power
from tests.unit.node.power import Power, PowerCut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[LogDisk], SegmentLog]:
    """Opens the log of a disk in memory, with segments of 3,000 bytes."""

    def on(disk: LogDisk) -> SegmentLog:
        on_disk(monkeypatch, disk)
        return SegmentLog(HOME, lambda: b"opening", segment=3000)

    return on


def held(log: Segments) -> list[bytes]:
    return [each.data for each in log.frames() if each.kind != FrameKind.STATE]


def batch(number: int) -> list[tuple[int, bytes]]:
    """Two frames, which differ from those of every other batch."""
    return [(FrameKind.BLOCK, bytes([number]) * 1200), (FrameKind.CHECKPOINT, b"check %d" % number)]


def contents(count: int) -> list[bytes]:
    return [data for number in range(1, count + 1) for _, data in batch(number)]


def write(log: SegmentLog, first: int, last: int) -> None:
    for number in range(first, last + 1):
        log.append(batch(number))
        log.sync()


def test_frames_are_read_back_over_segments(opened: Callable[[LogDisk], SegmentLog]) -> None:
    log = opened(empty_disk())
    write(log, 1, 9)
    assert held(log) == contents(9)
    assert len(log.sizes) == 3
    assert log.size == sum(log.sizes.values())
    firsts = [next(log.frames(Place(number, 0))) for number in log.sizes]
    assert [(each.kind, each.data) for each in firsts] == [(FrameKind.STATE, b"opening")] * 3


def test_the_layout_is_the_specified_one(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path), lambda: b"state")
    log.append([(1, b"block")])
    log.sync()
    data = (tmp_path / "0000000001.seg").read_bytes()
    assert data.startswith(b"AXSEG\x01\0\0\x03\0\0\0\x05")
    assert data == MAGIC + frame_bytes(3, b"state") + frame_bytes(1, b"block")
    assert (tmp_path / "0000000001.seg").stat().st_mode & 0o777 == 0o600
    log.close()


def test_reading_goes_on_from_any_frame_and_as_far_as_there_is(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path), segment=3000)
    write(log, 1, 5)
    every = list(log.frames())
    for number, frame in enumerate(every):
        assert list(log.frames(frame.place)) == every[number:]
    assert list(log.frames(every[-1].end)) == []
    write(log, 6, 6)
    assert [each.data for each in log.frames(every[-1].end)][-2:] == [data for _, data in batch(6)]
    log.close()


def test_a_log_that_was_closed_goes_on(tmp_path: Path) -> None:
    for number in range(1, 8):
        log = SegmentLog(str(tmp_path), segment=3000)
        write(log, number, number)
        log.close()
    log = SegmentLog(str(tmp_path))
    assert held(log) == contents(7)
    log.close()


def test_a_large_frame_is_read_whole(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path))
    log.append([(1, b"x" * 300_000), (1, b"y")])
    assert held(log) == [b"x" * 300_000, b"y"]
    log.close()


def test_the_oldest_segments_can_be_removed_but_not_the_last(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path), segment=3000)
    write(log, 1, 9)
    size = log.size
    freed = log.remove_oldest()
    assert log.size == size - freed
    assert held(log) == contents(9)[6:]
    log.remove_oldest()
    with pytest.raises(ValueError, match="stays"):
        log.remove_oldest()
    log.close()


@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
@pytest.mark.parametrize("done", range(5))
def test_a_cut_at_any_step_leaves_what_was_synced_and_whole_frames_after_it(
    opened: Callable[[LogDisk], SegmentLog], done: int, half: bool
) -> None:
    before = empty_disk()
    write(opened(before), 1, done)
    counting = with_power(before, Power())
    write(opened(counting), done + 1, done + 1)
    outcomes = set()
    for step in range(1, counting.power.steps + 1):
        tried = with_power(before, Power(step, half))
        with pytest.raises(PowerCut):
            write(opened(tried), done + 1, done + 1)
        for left in restarted(tried):
            log = opened(left)
            kept = held(log)
            assert kept == contents(done + 1)[: len(kept)], f"cut at step {step}"
            assert len(kept) >= 2 * done
            outcomes.add(len(kept))
            log.append([(FrameKind.BLOCK, b"next")])
            log.sync()
            for later in restarted(left):
                assert held(opened(later)) == [*kept, b"next"]
    assert {2 * done, 2 * done + 2} <= outcomes


@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
def test_a_cut_after_many_appends_tears_the_last_segment_only(
    opened: Callable[[LogDisk], SegmentLog], half: bool
) -> None:
    """A batch may begin a segment without anybody having synced the one before."""

    def append(log: SegmentLog) -> None:
        for number in range(1, 6):
            log.append(batch(number))

    counting = empty_disk()
    append(opened(counting))
    for step in range(1, counting.power.steps + 1):
        tried = with_power(empty_disk(), Power(step, half))
        with pytest.raises(PowerCut):
            append(opened(tried))
        for left in restarted(tried):
            kept = held(opened(left))
            assert kept == contents(5)[: len(kept)], f"cut at step {step}"


@pytest.mark.parametrize("done", [1, 2, 3])
def test_what_was_read_after_a_kill_is_kept_through_a_cut(
    opened: Callable[[LogDisk], SegmentLog], done: int
) -> None:
    """Killed between append and sync, then started: what it goes on from must not vanish later."""
    disk = empty_disk()
    log = opened(disk)
    write(log, 1, done)
    log.append(batch(done + 1))
    killed = with_power(disk, Power())
    assert held(opened(killed)) == contents(done + 1)
    for left in restarted(killed):
        assert held(opened(left)) == contents(done + 1)


def test_killed_while_a_segment_begins_its_name_is_kept_through_a_cut(
    opened: Callable[[LogDisk], SegmentLog],
) -> None:
    """Killed and not cut, at each step of a segment's beginning: what is written there afterwards stays."""
    before = empty_disk()
    write(opened(before), 1, 3)
    counting = with_power(before, Power())
    write(opened(counting), 4, 4)
    for step in range(1, counting.power.steps + 1):
        tried = with_power(before, Power(step))
        with pytest.raises(PowerCut):
            write(opened(tried), 4, 4)
        killed = with_power(tried, Power())
        log = opened(killed)
        kept = held(log)
        log.append([(FrameKind.BLOCK, b"next")])
        log.sync()
        for left in restarted(killed):
            assert held(opened(left)) == [*kept, b"next"], f"killed at step {step}"


def test_a_removed_segment_that_comes_back_after_a_cut_does_no_harm(
    opened: Callable[[LogDisk], SegmentLog],
) -> None:
    disk = empty_disk()
    log = opened(disk)
    write(log, 1, 6)
    log.remove_oldest()
    found = set()
    for left in restarted(disk):
        kept = held(opened(left))
        assert kept == contents(6)[12 - len(kept) :]
        found.add(len(kept))
    assert found == {6, 12}


def test_a_full_disk_leaves_the_log_as_it_was(opened: Callable[[LogDisk], SegmentLog]) -> None:
    """Whether there is room for nothing, a part of a frame, or no new segment."""
    whole = empty_disk()
    write(opened(whole), 1, 4)
    for room in range(0, sum(opened(whole).sizes.values()), 37):
        disk = empty_disk()
        disk.room = room
        log = opened(disk)
        written = 0
        try:
            while written < 4:
                write(log, written + 1, written + 1)
                written += 1
        except SpaceExhausted:
            pass
        else:
            pytest.fail("there was room for all")
        assert held(log) == contents(written)
        disk.room = 1 << 40
        write(log, written + 1, 4)
        assert held(log) == contents(4)
        assert held(opened(with_power(disk, Power()))) == contents(4)


def test_another_fault_of_the_disk_is_no_full_disk(opened: Callable[[LogDisk], SegmentLog]) -> None:
    disk = empty_disk()
    log = opened(disk)
    write(log, 1, 1)
    disk.faults["write"] = errno.EIO
    with pytest.raises(OSError, match="Input/output"):
        log.append(batch(2))
    disk.faults.clear()
    assert held(log) == contents(1)


def test_damage_before_the_end_is_said_and_nothing_is_cut_off(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path), segment=3000)
    write(log, 1, 5)
    log.close()
    path = tmp_path / "0000000001.seg"
    data = bytearray(path.read_bytes())
    for place in (0, 8, 10, 14, 100, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        path.write_bytes(bytes(damaged))
        log = SegmentLog(str(tmp_path), segment=3000)
        with pytest.raises(ExportLogDamaged, match="0000000001"):
            held(log)
        assert path.read_bytes() == damaged
        log.close()


def test_what_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "1.seg").write_text("mine")
    log = SegmentLog(str(tmp_path))
    write(log, 1, 1)
    assert held(log) == contents(1)
    log.close()
    assert (tmp_path / "1.seg").read_text() == "mine"


def test_only_one_process_writes_and_others_read_meanwhile(tmp_path: Path) -> None:
    log = SegmentLog(str(tmp_path))
    write(log, 1, 2)
    with pytest.raises(InProgress):
        SegmentLog(str(tmp_path))
    reader = Segments(str(tmp_path))
    assert held(reader) == contents(2)
    write(log, 3, 3)
    assert held(reader) == contents(2)
    reader.look()
    assert held(reader) == contents(3)
    reader.close()
    log.close()
    SegmentLog(str(tmp_path)).close()
