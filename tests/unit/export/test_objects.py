"""Which objects there are, and when they leave; the store is a dictionary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged
from appliance.export.sinks import object_feed as object_feed_module
from appliance.export.sinks.object_feed import ObjectFeed
from appliance.export.sinks.objects import log_objects
from tests.unit.export.nodes import Node
from tests.unit.export.test_archive import arrivals, keep
from tests.unit.export.test_feed import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.export.sinks.objects import LogObject

EPOCH = "logs/gpu-01/0000000001"


class Shelf:
    """Keeps objects in the order in which they came."""

    def __init__(self) -> None:
        self.kept: list[LogObject] = []

    def ready(self) -> None:
        pass

    def put(self, found: LogObject) -> None:
        self.kept.append(found)

    def close(self) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.kept]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.archive.close()


def name(first: int, last: int) -> str:
    return f"{EPOCH}/{first:020}-{last:020}.jsonl"


def feed(place: Desk, shelf: Shelf, now: list[float] | None = None) -> ObjectFeed:
    clock = now or [0.0]
    return ObjectFeed(
        place.archive, shelf, "logs/", place.folder / "s3.cursor", 60.0, clock=lambda: clock[0]
    )


def test_records_wait_for_others_and_not_longer_than_was_said(place: Desk) -> None:
    shelf, now = Shelf(), [100.0]
    made = feed(place, shelf, now)
    assert made.run() == 0
    place.receive(0, 3)
    assert made.run() == 0
    now[0] += 59.0
    place.receive(3, 6)
    assert made.run() == 0
    now[0] += 1.0
    assert made.run() == 16
    assert shelf.names == [name(0, 5)]
    place.receive(6, 7)
    assert made.run() == 0  # the time begins anew
    now[0] += 60.0
    assert made.run() == 3
    assert shelf.names[1:] == [name(6, 6)]


def test_many_records_do_not_wait_and_leave_in_pieces(place: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_feed_module, "_PIECE", 900)
    shelf = Shelf()
    place.receive(0, 13)
    made = feed(place, shelf)
    while made.run():
        pass
    assert len(shelf.kept) > 3
    assert made.place < place.archive.synced  # the rest waits
    while made.finish():
        pass
    lasts = [int(each.metadata["last-sequence"]) for each in shelf.kept]
    firsts = [int(each.metadata["first-sequence"]) for each in shelf.kept]
    assert firsts[0] == 1
    assert firsts[1:] == [each + 1 for each in lasts[:-1]]
    assert lasts[-1] == 36


def test_a_name_says_which_blocks_are_in_it_and_none_of_them_is_missing(place: Desk) -> None:
    shelf = Shelf()
    made = feed(place, shelf)
    place.receive(9, 11)
    place.receive(0, 3)
    place.receive(5, 7)
    made.finish()
    assert shelf.names == [name(0, 2), name(5, 6), name(9, 10)]
    place.receive(7, 9)
    place.receive(3, 5)
    made.finish()
    assert shelf.names[3:] == [name(3, 4), name(7, 8)]
    lines = [json.loads(line) for each in shelf.kept for line in each.body.splitlines()]
    assert sorted(each["sequence"] for each in lines if "sequence" in each) == list(range(1, 31))
    for each in shelf.kept:
        assert each.body.count(b"\n") == each.entries


def test_an_epoch_begins_another_object(place: Desk) -> None:
    place.node.restart(7)
    place.node.block(b'{"n":1}')
    place.receive(11, 15)
    shelf = Shelf()
    feed(place, shelf).finish()
    assert shelf.names == [
        name(11, 12),
        "logs/gpu-01/0000000007/00000000000000000013-00000000000000000014.jsonl",
    ]


def test_another_history_is_beside_the_first_under_names_of_its_own(place: Desk) -> None:
    place.receive(0, 3)
    other = Node()
    other.block(b"another one")
    other.block(b"and another")
    keep(place.archive, arrivals(other, place.archive.ledger, other.stream(other.blocks[1:])))
    shelf = Shelf()
    feed(place, shelf).finish()
    assert shelf.names[0] == name(0, 2)
    assert len(set(shelf.names)) == 3
    assert [each.rpartition("-")[0] for each in shelf.names[1:]] == [
        f"{EPOCH}/fork-{block:020}" for block in (1, 2)
    ]
    assert all(json.loads(each.body)["fork"] is True for each in shelf.kept[1:])


def test_checkpoints_alone_are_no_object(place: Desk) -> None:
    found = place.node.checkpoint_datagrams(place.node.checkpoint())
    keep(place.archive, arrivals(place.node, place.archive.ledger, found))
    shelf = Shelf()
    made = feed(place, shelf)
    assert made.finish() == 0
    assert shelf.kept == []
    assert made.place == place.archive.synced


def test_the_same_frames_in_any_order_are_the_same_objects(place: Desk) -> None:
    place.receive(0, 13)
    frames = list(feed(place, Shelf())._reading.frames(feed(place, Shelf()).place))
    assert log_objects(frames, "gpu-01", "logs/") == log_objects(frames[::-1], "gpu-01", "logs/")


def test_a_piece_that_the_archive_does_not_have_is_said(place: Desk) -> None:
    place.receive(0, 3)
    cursor = place.folder / "s3.cursor"
    feed(place, Shelf()).close()
    cursor.write_bytes(b'{"mark":"1:77","offset":0,"segment":0}')
    with pytest.raises(ExportLogDamaged, match="a place that the archive does not have"):
        feed(place, Shelf()).run()
