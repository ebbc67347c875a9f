"""The receiver without its socket: what arrives is kept, told of and given on, or stays missing."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import InProgress
from appliance.export import ledger, segment_log
from appliance.export.block import BlockKind, sign_block
from appliance.export.checking import check_folders
from appliance.export.payload import Drop
from appliance.export.receiver import Receiver
from appliance.export.sinks.feed import Feed
from appliance.export.sinks.file import FileSink
from appliance.export.sinks.lines import json_lines
from appliance.trust.canonical import LARGEST_INTEGER
from tests.unit.export.nodes import NOW, Node, chance, identity, with_payload
from tests.unit.export.test_ledger import restored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.export.archive import Archive


def lines_of(archive: Archive, folder: Path) -> list[Feed]:
    return [Feed(archive, FileSink(folder / "records.jsonl"), json_lines, folder / "lines.cursor")]


def receiver_in(folder: Path, *nodes: Node) -> Receiver:
    return Receiver(folder, [each.identity.sender for each in nodes], lines_of, segment=20_000)


def written(folder: Path, name: str = "gpu-01") -> list[dict[str, object]]:
    return [json.loads(each) for each in (folder / name / "records.jsonl").read_text().splitlines()]


def news(receiver: Receiver, wall: int = NOW) -> list[str]:
    """The events of two looks: what is missing in both is a gap."""
    return [each["event"] for _ in range(2) for each in receiver.tell(wall)]


def told(folder: Path, name: str = "gpu-01") -> list[dict[str, object]]:
    path = folder / name / "events.jsonl"
    return [json.loads(each) for each in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def node() -> Node:
    made = Node()
    for number in range(9):
        made.block(b'{"n":%d}' % number, chance(number).randbytes(900))
    return made


@pytest.fixture
def receiver(tmp_path: Path, node: Node) -> Iterator[Receiver]:
    made = receiver_in(tmp_path, node)
    yield made
    made.close()


def test_what_arrives_is_kept_and_written(tmp_path: Path, receiver: Receiver, node: Node) -> None:
    assert receiver.take(node.stream()) == 10
    receiver.feed()
    sequences = [each["sequence"] for each in written(tmp_path) if "sequence" in each]
    assert sequences == list(range(1, 19))
    assert receiver.tell(NOW) == []
    (status,) = receiver.status()["nodes"]
    assert (status["blocks"], status["gaps"], status["troubles"]) == (10, [], {})
    json.dumps(receiver.status())


def test_gaps_are_told_of_as_they_open_fill_and_are_lost(
    tmp_path: Path, receiver: Receiver, node: Node
) -> None:
    receiver.take(node.stream([node.blocks[0], node.blocks[4], node.blocks[8]]))
    news(receiver)
    receiver.take(node.stream(node.blocks[1:3]))
    receiver.take(node.checkpoint_datagrams(node.checkpoint(oldest=7)))
    news(receiver, NOW + 1000)
    receiver.take(node.stream())
    receiver.tell(NOW + 2000)
    assert [(each["event"], each["blocks"]) for each in told(tmp_path)] == [
        ("gap-opened", [1, 3]),
        ("gap-opened", [5, 7]),
        ("gap-filled", [1, 2]),
        ("gap-lost", [3, 3]),
        ("gap-lost", [5, 6]),
        ("gap-opened", [9, 9]),
        ("gap-filled", [3, 3]),
        ("gap-filled", [5, 7]),
        ("gap-filled", [9, 9]),
    ]


def test_what_overtakes_is_no_gap(tmp_path: Path, receiver: Receiver, node: Node) -> None:
    for each in reversed(node.blocks[::2]):
        receiver.take(node.datagrams(each))
    assert receiver.tell(NOW) == []
    receiver.take(node.stream(node.blocks[1::2]))
    assert news(receiver) == []
    assert told(tmp_path) == []


def test_a_restart_goes_on_and_tells_nothing_twice(tmp_path: Path, node: Node) -> None:
    first = receiver_in(tmp_path, node)
    first.take(node.stream(node.blocks[2:5]))
    drop = node.builder.drop(3, Drop("spool-full", 1, NOW, NOW), NOW)
    first.take(node.datagrams(drop))
    first.feed()
    assert news(first) == ["dropped", "gap-opened", "gap-opened"]
    first.close()
    second = receiver_in(tmp_path, node)
    second.take(node.stream())
    second.feed()
    assert {each["event"] for each in second.tell(NOW)} == {"gap-filled"}
    assert sorted(each["sequence"] for each in written(tmp_path) if "sequence" in each) == [*range(1, 19)]
    second.close()


def test_two_histories_in_one_handful_are_told_apart(tmp_path: Path, node: Node) -> None:
    """Two nodes with one key: what the second says is kept beside the first's, marked, and alarms."""
    clone = Node()
    clone.blocks = node.blocks[:9]
    clone.head = type(clone.head)()
    for each in clone.blocks:
        clone.head = clone.head.after(each.header)
    clone.builder.head = clone.head
    mine, other = node.blocks[9], clone.block(b'{"n":"other"}')
    receiver = receiver_in(tmp_path, node)
    receiver.take(node.stream(node.blocks[:9]))
    assert receiver.take(node.datagrams(mine) + clone.datagrams(other)) == 2
    receiver.feed()
    assert [each["event"] for each in receiver.tell(NOW)] == ["fork"]
    forks = [each for each in written(tmp_path) if each.get("fork")]
    assert [each["record"] for each in forks] == [{"n": "other"}]
    receiver.close()
    again = receiver_in(tmp_path, node)
    assert again.tell(NOW) == []
    assert again.take(clone.datagrams(other)) == 0
    again.close()


def test_every_record_of_a_restored_node_is_delivered_and_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the receiver remembers none of the hashes any more."""
    monkeypatch.setattr(ledger, "_RECENT", 1)
    first = Node()
    for number in range(30):
        first.block(b'{"first":%d}' % number)
    second = restored(first, blocks=11, epoch=2)
    for number in range(40):
        second.block(b'{"second":%d}' % number)
    receiver = receiver_in(tmp_path, first)
    for each in (*first.blocks, *second.blocks[11:]):
        receiver.take(first.datagrams(each))
    receiver.feed()
    assert sorted(news(receiver)) == ["break", "fork"]
    receiver.close()
    records = [(each["record"], each.get("fork", False)) for each in written(tmp_path) if "record" in each]
    assert [each for each in records if not each[1]] == [
        *(({"first": number}, False) for number in range(30)),
        *(({"second": number}, False) for number in range(19, 40)),
    ]
    assert [each for each in records if each[1]] == [({"second": number}, True) for number in range(19)]


def test_two_checkpoints_in_one_handful_leave_the_newer(receiver: Receiver, node: Node) -> None:
    old, new = node.checkpoint(), node.checkpoint()
    assert receiver.take(node.checkpoint_datagrams(new) + node.checkpoint_datagrams(old)) == 1
    assert receiver.take(node.checkpoint_datagrams(node.checkpoint())) == 1
    assert receiver.reception.counts[node.identity.node].refused == {"stale-checkpoint": 1}


def test_a_full_disk_keeps_nothing_and_the_next_pass_fills_it(
    receiver: Receiver, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(segment_log, "os", SimpleNamespace(**{**vars(os), "write": write}))
        assert receiver.take(node.stream()) == 0
    assert receiver.unkept == 10
    assert "is full" in receiver.status()["nodes"][0]["troubles"]["archive"]
    assert receiver.take(node.stream()) == 10
    assert receiver.status()["nodes"][0]["troubles"] == {}
    assert receiver.status()["nodes"][0]["gaps"] == []


def test_a_sink_that_takes_nothing_is_told_and_offered_it_again(
    tmp_path: Path, receiver: Receiver, node: Node
) -> None:
    receiver.take(node.stream(node.blocks[:3]))
    receiver.feed()
    (tmp_path / "gpu-01/records.jsonl").unlink()
    (tmp_path / "gpu-01/records.jsonl").mkdir()
    receiver.take(node.stream())
    receiver.feed()
    assert "lines.cursor" in receiver.status()["nodes"][0]["troubles"]
    (tmp_path / "gpu-01/records.jsonl").rmdir()
    receiver.feed()
    assert receiver.status()["nodes"][0]["troubles"] == {}
    assert [each["sequence"] for each in written(tmp_path)] == list(range(5, 19))


def test_many_nodes_are_kept_apart(tmp_path: Path) -> None:
    nodes = [Node(identity(name)) for name in ("gpu-01", "gpu-02", "gpu-03")]
    for number, node in enumerate(nodes):
        for _ in range(number + 1):
            node.block(b"%s" % node.identity.name.encode())
    mixed = [each for node in nodes for each in node.stream()]
    chance(3).shuffle(mixed)
    receiver = receiver_in(tmp_path, *nodes)
    receiver.take(mixed)
    receiver.feed()
    receiver.close()
    for number, node in enumerate(nodes):
        found = [each["record"] for each in written(tmp_path, node.identity.name) if "record" in each]
        assert found == [node.identity.name] * (number + 1)
        proof = check_folders([tmp_path / node.identity.name / "archive"], node.identity.sender)
        assert proof.records == number + 1


@pytest.mark.usefixtures("receiver")
def test_one_receiver_has_a_folder(tmp_path: Path, node: Node) -> None:
    with pytest.raises(InProgress):
        receiver_in(tmp_path, node)


def test_an_archive_with_a_limit_gives_up_what_every_sink_has(tmp_path: Path) -> None:
    """And nothing that one of them has not: it is their only copy."""
    node, limit = Node(), 60_000
    receiver = Receiver(tmp_path, [node.identity.sender], lines_of, segment=20_000, limit=limit)
    for number in range(200):
        receiver.take(node.datagrams(node.block(b'{"n":%d}' % number, chance(number).randbytes(900))))
    assert receiver.status()["nodes"][0]["archive_removed"] == 0
    assert receiver.status()["nodes"][0]["archive_bytes"] > 2 * limit
    receiver.feed()
    receiver.take(node.datagrams(node.block(b'{"n":200}')))
    (status,) = receiver.status()["nodes"]
    assert status["archive_removed"] > 5
    assert limit - 20_000 < status["archive_bytes"] <= limit + 20_000
    assert [each["blocks"] for each in status["gaps"]] == [[0, 0]]
    receiver.close()
    again = receiver_in(tmp_path, node)
    again.feed()
    assert [each["blocks"] for each in again.status()["nodes"][0]["gaps"]] == [[0, 0]]
    again.close()
    numbers = [
        each["record"]["n"]  # type: ignore[index]
        for each in written(tmp_path)
        if isinstance(each["record"], dict)
    ]
    assert numbers == list(range(201))


def test_an_event_that_was_torn_spoils_none_that_comes_after(
    tmp_path: Path, receiver: Receiver, node: Node
) -> None:
    """It is told again, since it was never told whole."""
    (tmp_path / "gpu-01/events.jsonl").write_text('{"event":"gap-lost"}\n{"event":"gap-op')
    receiver.take(node.stream([node.blocks[0], node.blocks[4]]))
    assert news(receiver) == ["gap-opened"]
    assert [each["event"] for each in told(tmp_path)] == ["gap-lost", "gap-opened"]


def test_an_event_that_found_no_room_is_told_once_there_is(
    tmp_path: Path, receiver: Receiver, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    receiver.take(node.stream([node.blocks[0], node.blocks[4]]))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", full)
        assert news(receiver) == []
    assert "No space" in receiver.status()["nodes"][0]["troubles"]["events.jsonl"]
    assert news(receiver) == ["gap-opened"]
    assert [each["event"] for each in told(tmp_path)] == ["gap-opened"]


@pytest.mark.parametrize(
    "changes", [{"first": 1 << 60, "last": 1 << 60}, {"last": 1 << 63}, {"block": (1 << 64) - 1}]
)
def test_numbers_that_no_reader_of_json_holds_are_refused(
    receiver: Receiver, node: Node, changes: dict[str, int]
) -> None:
    """A node with a key may sign anything; the ledger is kept and told of as JSON."""
    receiver.take(node.stream())
    drop = node.builder.drop(1, Drop("spool-full", 1, NOW, NOW), NOW)
    hostile = sign_block(replace(drop.header, **changes), drop.payload, node.identity.key)  # type: ignore[arg-type]
    assert receiver.take(node.datagrams(hostile)) == 0
    assert set(receiver.status()["nodes"][0]["refused"]) == {"malformed"}
    assert news(receiver) == []


def test_so_many_dropped_that_no_reader_of_json_holds_their_sum(receiver: Receiver, node: Node) -> None:
    receiver.take(node.stream())
    for _ in range(2):
        drop = node.builder.drop(1, Drop("spool-full", 1, NOW, NOW), NOW)
        receiver.take(node.datagrams(node.forged(drop, last=LARGEST_INTEGER)))
    assert "dropped" in news(receiver)
    assert receiver.status()["nodes"][0]["dropped"] == LARGEST_INTEGER


def test_another_history_is_marked_though_it_comes_in_one_call(tmp_path: Path) -> None:
    """A node that was restored goes on where it was, in an epoch before the one that is known."""
    node = Node()
    node.restart(20)
    node.block(b"{}")
    other = Node(epoch=5, head=node.head)
    other.block(b"{}")
    receiver = receiver_in(tmp_path, node)
    receiver.take(node.stream() + other.stream())
    receiver.feed()
    receiver.close()
    marks = [(each["block"], each.get("fork", False)) for each in written(tmp_path)]
    assert marks == [(0, False), (1, False), (2, False), (3, True), (4, True)]


def test_a_statement_that_is_nearly_too_deep_stops_no_sink(tmp_path: Path) -> None:
    """Sinks read again what was believed, in other threads, with less room on the stack or more."""
    for depth in (98, 99, 100, *range(960, 1000)):
        folder, node = tmp_path / str(depth), Node()
        folder.mkdir()
        payload = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        block = with_payload(node, payload, kind=BlockKind.DROPS, coding=0, raw_length=len(payload))
        receiver = receiver_in(folder, node)
        kept = receiver.take([*node.stream(node.blocks[:1]), *node.datagrams(block)])
        feeder = threading.Thread(target=receiver.feed)
        feeder.start()
        feeder.join()
        assert receiver.status()["nodes"][0]["troubles"] == {}
        assert (kept, len(written(folder))) == ((2, 2) if depth < 100 else (1, 1))
        receiver.close()


def test_what_the_full_ledger_refused_is_taken_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two blocks that came in one call the second is judged again, and was one gap too many."""
    monkeypatch.setattr(ledger, "MAX_RUNS", 2)
    node = Node()
    node.many(3)
    node.restart()
    receiver = receiver_in(tmp_path, node)
    receiver.take(node.datagrams(node.blocks[0]))
    assert receiver.take(node.stream([node.blocks[2], node.blocks[4]])) == 1
    assert receiver.status()["nodes"][0]["refused"].keys() == {"ledger-full"}
    receiver.take(node.stream())
    receiver.take(node.stream())
    (status,) = receiver.status()["nodes"]
    assert (status["highest_block"], status["gaps"]) == (4, [])
    receiver.close()
