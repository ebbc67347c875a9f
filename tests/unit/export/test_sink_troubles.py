"""Sinks in trouble: a full disk, a server that is away, a backlog, a stop; whom else it keeps waiting."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged, ExportSinkUnready
from appliance.export import loops as loops_module
from appliance.export import receiver as receiver_module
from appliance.export.loops import ReceiveLoop
from appliance.export.receiver import Receiver
from appliance.export.sinks import cursor as cursor_module
from appliance.export.sinks import feed as feed_module
from appliance.export.sinks import file as file_module
from appliance.export.sinks import object_feed as object_feed_module
from appliance.export.sinks.feed import Feed
from appliance.export.sinks.lines import json_lines
from appliance.export.sinks.pause import Pause
from tests.unit.export.nodes import Node, chance, identity
from tests.unit.export.test_feed import Desk, all_of
from tests.unit.export.test_objects import Shelf
from tests.unit.export.test_objects import feed as object_feed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from appliance.export.archive import Archive
    from appliance.export.segments import Frame


class Taker:
    """Takes lines, unless it is told to fail; ``act`` is called before."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.act = act
        self.taken: list[list[bytes]] = []
        self.pause: ExportSinkUnready | None = None

    def ready(self) -> bool:
        if self.pause:
            raise self.pause
        return False

    def write(self, found: Sequence[bytes]) -> None:
        self.act()
        self.taken.append(list(found))

    def settle(self) -> str:
        return ""

    def resume(self, mark: str) -> None:
        pass

    def close(self) -> None:
        pass


def raising(fault: Exception) -> Callable[[], object]:
    def act(*_: object) -> None:
        raise fault

    return act


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.archive.close()


FULL = OSError(28, "No space left on device")


def test_a_cursor_that_finds_no_room_makes_nothing_come_twice(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried ten times a second, it would else fill the rest of the disk, or somebody's broker."""
    place.receive(0, 6)
    sink = Taker()
    file = place.feed()
    other = Feed(place.archive, sink, json_lines, place.folder / "other.cursor")
    with monkeypatch.context() as patch:
        patch.setattr(cursor_module, "replace_file", raising(FULL))
        for each in (file, other) * 3:
            with pytest.raises(OSError, match="No space"):
                each.run()
            assert each.place.segment == 0  # the archive keeps what no cursor is beyond
    place.receive(6, 13)
    all_of(file)
    all_of(other)
    assert place.sequences() == list(range(1, 37))
    lines = [json.loads(each) for batch in sink.taken for each in batch]
    assert [each["sequence"] for each in lines if "sequence" in each] == list(range(1, 37))


def test_what_did_not_get_to_the_disk_is_cut_off_before_it_comes_again(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.receive(0, 6)
    feed = place.feed()
    with monkeypatch.context() as patch:
        broken = SimpleNamespace(**{**vars(os), "fdatasync": raising(OSError(5, "Input/output error"))})
        patch.setattr(file_module, "os", broken)
        with pytest.raises(OSError, match="Input/output"):
            feed.run()
    feed.run()
    assert place.sequences() == list(range(1, 16))


def test_no_object_leaves_in_a_piece_that_is_not_written_down(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed then would make other pieces: the same records under two names."""
    shelf = Shelf()
    place.receive(0, 3)
    made = object_feed(place, shelf)
    with monkeypatch.context() as patch:
        patch.setattr(object_feed_module, "write_cursor", raising(FULL))
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                made.finish()
    assert shelf.kept == []
    place.receive(3, 6)
    again = object_feed(place, shelf)  # after a kill
    again.finish()
    again.finish()
    made.finish()
    assert len(set(shelf.names)) == 1


@pytest.mark.parametrize("make", ["lines", "objects"])
def test_a_cursor_ahead_of_its_archive_is_said(place: Desk, make: str) -> None:
    """The archive was put back from an old copy: what fills it again would be passed over."""
    (place.folder / "cursor.json").write_bytes(b'{"mark":"","offset":9,"segment":77}')
    (place.folder / "s3.cursor").write_bytes(b'{"mark":"","offset":9,"segment":77}')
    with pytest.raises(ExportLogDamaged, match="ahead of its archive") as said:
        _ = place.feed() if make == "lines" else object_feed(place, Shelf())
    assert "emove the cursor" in str(said.value.hint)


def dense(place: Desk, blocks: int) -> None:
    """Blocks of some hundred bytes that say the same thing again and again."""
    for _ in range(blocks):
        place.node.block(*(b"%1000d" % 7,) * 900)
    place.receive(13, 13 + blocks)


def test_lines_of_blocks_that_say_always_the_same_do_not_fill_the_memory(place: Desk) -> None:
    dense(place, 40)
    assert place.archive.size < 1 << 18
    sink = Taker()
    all_of(Feed(place.archive, sink, json_lines, place.folder / "other.cursor"))
    assert sum(map(len, sink.taken)) == 40 * 900
    assert max(sum(map(len, each)) for each in sink.taken) < 6 << 20


def test_objects_of_such_blocks_stay_small_and_leave_without_another_wait(place: Desk) -> None:
    dense(place, 40)
    shelf, now = Shelf(), [0.0]
    made = object_feed(place, shelf, now)
    made.run()
    now[0] = 60.0
    all_of(made)  # type: ignore[arg-type] # it is run alike
    assert sum(each.entries for each in shelf.kept) == 40 * 900
    assert len(shelf.kept) > 2
    assert max(len(each.body) for each in shelf.kept) < 16 << 20


def test_nothing_is_made_for_a_sink_that_just_failed(place: Desk) -> None:
    place.receive(0, 6)
    sink, made = Taker(), 0

    def counted(frame: Frame, node: str) -> list[bytes]:
        nonlocal made
        made += 1
        return json_lines(frame, node)

    sink.pause = ExportSinkUnready("away")
    feed = Feed(place.archive, sink, counted, place.folder / "other.cursor")
    with pytest.raises(ExportSinkUnready, match="away"):
        feed.run()
    assert made == 0


def test_what_is_said_again_keeps_nothing_of_who_asked() -> None:
    """An exception that is raised again gathers the frames on its way, and what they held."""
    pause = Pause(lambda: 1.0)
    pause.begin(ExportSinkUnready("away"))
    found = []
    for _ in range(2):
        with pytest.raises(ExportSinkUnready, match="away") as said:
            pause.heed()
        found.append(said.value)
    assert found[0] is not found[1]


def receiver_of(folder: Path, sink: Taker, nodes: Sequence[Node]) -> Receiver:
    def feeds(archive: Archive, place: Path) -> list[Feed[bytes]]:
        return [Feed(archive, sink, json_lines, place / "lines.cursor")]

    return Receiver(folder, [each.identity.sender for each in nodes], feeds, segment=2000)


def test_the_backlog_of_one_node_keeps_no_other_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "_BATCH", 700)
    nodes = [Node(identity(name)) for name in ("gpu-01", "gpu-02")]
    nodes[0].many(60)
    nodes[1].many(1)
    sink = Taker()
    receiver = receiver_of(tmp_path, sink, nodes)
    for node in nodes:
        receiver.take(node.stream())
    assert receiver.feed("lines.cursor")
    assert {json.loads(each)["node"] for batch in sink.taken for each in batch} == {"gpu-01", "gpu-02"}
    assert len(sink.taken) == 2
    while receiver.feed("lines.cursor"):
        pass
    assert sum(map(len, sink.taken)) == 63
    receiver.close()


def test_whatever_a_sink_fails_with_is_told_and_tried_again(tmp_path: Path) -> None:
    node = Node()
    node.many(3)
    sink = Taker(raising(RuntimeError("nobody thought of this")))
    receiver = receiver_of(tmp_path, sink, [node])
    receiver.take(node.stream())
    assert not receiver.feed("lines.cursor")
    (status,) = receiver.status()["nodes"]
    assert status["troubles"] == {"lines.cursor": "RuntimeError: nobody thought of this"}
    sink.act = lambda: None
    assert receiver.feed("lines.cursor")
    assert receiver.status()["nodes"][0]["troubles"] == {}
    receiver.close()


def test_a_sink_has_a_backlog_if_a_piece_for_it_is_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "_BACKLOG", 600)
    node = Node()
    receiver = receiver_of(tmp_path, Taker(), [node])
    receiver.take(node.stream())
    receiver.feed()
    receiver.take(node.stream([node.block(bytes(10))]))
    assert not receiver.has_backlog("lines.cursor")
    receiver.take(node.stream([node.block(chance(1).randbytes(700))]))
    assert receiver.has_backlog("lines.cursor")
    assert not receiver.has_backlog("another.cursor")
    receiver.feed()
    assert not receiver.has_backlog("lines.cursor")
    receiver.take(node.stream([node.block(chance(each).randbytes(1900)) for each in (2, 3)]))
    receiver.take(node.stream([node.block(bytes(10))]))  # in a segment of its own, behind a full one
    assert receiver.has_backlog("lines.cursor")
    receiver.close()


def test_a_stop_does_not_wait_for_a_backlog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "_BATCH", 1)
    monkeypatch.setattr(loops_module, "_LAST", 0.2)
    node = Node()
    node.many(600)
    first = threading.Event()

    def slow() -> None:
        first.set()
        time.sleep(0.05)  # 600 of them are half a minute

    sink = Taker(slow)
    receiver = receiver_of(tmp_path, sink, [node])
    receiver.take(node.stream())
    stop = threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.bind(("127.0.0.1", 0))
        loop = ReceiveLoop(receiver, line, lambda _: None, lambda _: None)
        running = threading.Thread(target=loop.run, args=(stop,))
        running.start()
        assert first.wait(10)
        stop.set()
        running.join(8)
        assert not running.is_alive()
    assert 2 < len(sink.taken) < 400  # also after the stop, and not all of it
    receiver.close()


@pytest.mark.parametrize(
    ("went_on", "backlog", "waits"),
    [(True, True, 0), (True, False, 3), (False, True, 3), (False, False, 3)],
)
def test_a_sink_gathers_unless_it_goes_on_and_a_large_piece_waits(
    went_on: bool, backlog: bool, waits: int
) -> None:
    """One that takes nothing is not asked without a pause, however much waits for it."""
    asked = iter([False] * 3 + [True])
    waited: list[float] = []
    stop = SimpleNamespace(is_set=lambda: next(asked), wait=waited.append)
    receiver = SimpleNamespace(feed=lambda *_: went_on, has_backlog=lambda _: backlog)
    loop = ReceiveLoop(receiver, None, print, print)  # type: ignore[arg-type]
    loop._feed("lines.cursor", stop)  # type: ignore[arg-type]
    assert len(waited) == waits
