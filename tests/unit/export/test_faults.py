"""Faults by name, from a source to the lines that a receiver writes: the outcome of each, and every record.

The whole of both sides, on disk, by a clock that the test turns; between them a line that the test spoils.
After each fault every sequence is delivered, in a gap, or in a signed statement of drops.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.export import segment_log
from appliance.export.exporter import Exporter, Moment
from appliance.export.pacing import TokenBucket
from appliance.export.receiver import Receiver
from appliance.export.replaying import as_datagrams
from appliance.export.sending import Sending
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.nodes import NOW, Node, chance, identity
from tests.unit.export.test_receiver import lines_of, news, told, written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WHO = identity()
ALARMS = ("forks", "breaks", "contradictions")


class Whole:
    """A sender's and a receiver's folder, and one clock; ``spoil`` says what of a datagram arrives."""

    def __init__(self, folder: Path) -> None:
        self.spool, self.place = folder / "spool", folder / "receiver"
        for each in (self.spool, self.place):
            each.mkdir(parents=True, exist_ok=True)
        if not any(self.spool.iterdir()):
            Spool(str(self.spool), WHO.sender, limit=MIN_LIMIT, new=True).close()
        self.second, self.wall, self.logged = 0.0, NOW, 0
        self.spoil: Callable[[bytes], list[bytes]] = lambda each: [each]
        self.hear()
        self.start()

    @property
    def now(self) -> Moment:
        return Moment(self.second, self.wall + int(self.second * 1000))

    def start(self) -> None:
        self.kept = Spool(str(self.spool), WHO.sender, limit=MIN_LIMIT)
        self.begin()

    def begin(self) -> None:
        """The next epoch of the spool."""
        self.exporter = Exporter(WHO, self.kept, self.now)
        self.sending = Sending(WHO, self.exporter, TokenBucket(1e9, 64_000))

    def kill(self) -> None:
        """The sender is gone at once: what is not on its disk by now never was."""
        self.kept.close()

    def hear(self) -> None:
        self.receiver = Receiver(self.place, [WHO.sender], lines_of, segment=200_000)

    def log(self, count: int, size: int = 800) -> None:
        """Records that are made into blocks, some at a time."""
        for number in range(self.logged, self.logged + count):
            text = chance(number).randbytes(size // 2).hex()
            self.exporter.offer(b'{"n":%d,"x":"%s"}' % (number, text.encode()), self.now)
            if number % 5 == 4:
                self.exporter.seal(self.now)
                self.exporter.sync(self.now)
        self.logged += count
        self.exporter.seal(self.now)
        self.exporter.sync(self.now)

    def run(self, until: float, *, hears: bool = True) -> None:
        """Send what there is until that second, with a checkpoint at its end."""
        for last in (False, True):
            if last and (made := self.exporter.checkpoint({}, self.now)) is not None:
                self.sending.announce(*made, self.now)
            end = until if last else until - 4
            while self.second < end:
                while burst := self.sending.burst(self.now):
                    for datagram in burst:
                        arrived = self.spoil(datagram)
                        if hears:
                            self.receiver.take(arrived)
                self.second = min(end, self.second + max(self.sending.wait(self.now), 1e-4))
        if hears:
            self.receiver.feed()

    @property
    def status(self) -> dict[str, Any]:
        (found,) = self.receiver.status()["nodes"]
        assert isinstance(found, dict)
        return found

    def sequences(self, what: str) -> list[int]:
        """Of what was delivered or dropped; each line's range."""
        lines = [each for each in written(self.place) if what in each and "fork" not in each]
        ranges: list[Any] = [
            (each.get("first", each.get("sequence")), each.get("last", each.get("sequence")))
            for each in lines
        ]
        return [each for first, last in ranges for each in range(first, last + 1)]

    def accounted(self) -> None:
        missing = [
            each
            for gap in self.status["gaps"]
            for each in range(gap["sequences"][0], gap["sequences"][1] + 1)
        ]
        known = self.status["checkpoint"]["next_sequence"] - 1
        assert known == self.logged
        everything = self.sequences("record") + self.sequences("dropped") + missing
        assert sorted(everything) == list(range(1, known + 1))

    @property
    def whole(self) -> bool:
        """Everything is delivered, in one history, without an alarm."""
        self.accounted()
        quiet = not any(self.status[each] for each in ALARMS)
        return (
            quiet
            and self.sequences("record") == sorted(self.sequences("record")) != []
            and not (self.status["gaps"] or self.status["dropped"])
        )

    def close(self) -> None:
        self.kill()
        self.receiver.close()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Whole]:
    made = Whole(tmp_path)
    yield made
    made.close()


def losing(share: float) -> Callable[[bytes], list[bytes]]:
    luck = chance(share)
    return lambda each: [each] if luck.random() >= share else []


@pytest.mark.parametrize("percent", [0, 1, 5, 10, 20])
def test_loss(system: Whole, percent: int) -> None:
    system.spoil = losing(percent / 100)
    system.log(300)
    system.run(45)
    system.accounted()
    system.run(700)
    assert sorted(system.sequences("record")) == list(range(1, 301))
    assert not system.status["gaps"]


def test_blackout(system: Whole) -> None:
    system.spoil = lambda _: []
    system.log(50)
    system.run(20)
    assert system.status["blocks"] == 0
    system.spoil = lambda each: [each]
    system.log(50)
    system.run(25)
    system.accounted()
    assert [each["state"] for each in system.status["gaps"]] == ["open"]
    system.run(60)
    assert not system.status["gaps"]
    assert news(system.receiver) == []
    assert sorted(system.sequences("record")) == list(range(1, 101))


def test_reordered(system: Whole) -> None:
    held: list[bytes] = []

    def shuffled(each: bytes) -> list[bytes]:
        held.append(each)
        if len(held) < 40:
            return []
        chance(len(each)).shuffle(held)
        found, held[:] = list(held), []
        return found

    system.spoil = shuffled
    system.log(200)
    system.run(60)
    system.spoil = lambda each: [*held, each]
    system.run(70)
    assert not system.status["gaps"]
    assert not any(system.status[each] for each in ALARMS)
    assert sorted(system.sequences("record")) == list(range(1, 201))


def test_duplicated(system: Whole) -> None:
    system.spoil = lambda each: [each, each]
    system.log(50)
    system.run(20)
    assert system.whole
    assert system.status["duplicates"] > 50


def test_bits_flipped(system: Whole) -> None:
    luck = chance("flips")

    def flipped(each: bytes) -> list[bytes]:
        place = luck.randrange(len(each))
        bad = each[:place] + bytes([each[place] ^ 1 << luck.randrange(8)]) + each[place + 1 :]
        return [bad if luck.random() < 0.1 else each]

    system.spoil = flipped
    system.log(200)
    system.run(60)
    assert not system.status["gaps"]
    refused = system.status["refused"] | system.receiver.status()["refused"]
    assert set(refused) <= {"tag-forged", "not-ours", "unknown-node"}
    assert refused["tag-forged"] > 10
    system.accounted()
    assert sorted(system.sequences("record")) == list(range(1, 201))
    assert not any(system.status[each] for each in ALARMS)


def test_forged_tags_and_signatures(system: Whole) -> None:
    """By somebody on the line who knows the tag's key, and by one who does not."""
    stranger = Node(identity("stranger"))
    stranger.many(3)
    forged = Node(type(WHO)(WHO.name, WHO.node, identity("stranger").key, WHO.tag_key))
    forged.many(3)
    system.log(20)
    system.receiver.take(forged.stream() + [each[:-1] + b"x" for each in forged.stream()])
    system.receiver.take(stranger.stream())
    system.run(20)
    assert system.whole
    assert system.status["refused"] == {"signature-forged": 20, "tag-forged": 20}
    assert set(system.receiver.status()["refused"]) == {"unknown-node"}


def test_replayed_epoch(system: Whole) -> None:
    recorded: list[bytes] = []
    system.spoil = lambda each: recorded.append(each) or [each]  # type: ignore[func-returns-value]
    system.log(20)
    system.run(20)
    system.kill()
    system.start()
    system.log(20)
    system.run(40)
    system.receiver.close()
    system.hear()
    assert system.receiver.take(recorded) == 0
    assert system.status["known"] > 5
    assert system.status["refused"].keys() == {"stale-checkpoint"}
    assert system.whole


def test_truncated_tail(system: Whole) -> None:
    """The end is cut off and nothing comes any more: the last checkpoint says how much that is."""
    system.log(40)
    system.run(20)
    system.log(35)
    is_block = itertools.count()
    system.spoil = lambda each: [each] if each[3] == 2 or next(is_block) < 0 else []
    system.run(29)
    system.accounted()
    (gap,) = system.status["gaps"]
    assert (gap["state"], gap["sequences"]) == ("open", [41, 75])


@pytest.mark.parametrize("second", [0.0, 0.1, 3.0, 31.0])
def test_sender_killed(system: Whole, second: float) -> None:
    """Nothing that was on the disk is lost, and nothing that was not was ever counted."""
    system.log(40)
    while system.second < second:
        system.run(system.second + min(4.1, second - system.second + 0.1))
    system.exporter.offer(b'{"n":"never on the disk"}', system.now)
    system.kill()
    system.start()
    system.log(10)
    system.run(system.second + 45)
    assert system.whole
    assert [each for each in written(system.place) if "opened" in each][-1][
        "epoch"
    ] == system.exporter.epoch


def test_receiver_killed(system: Whole) -> None:
    for number in range(6):
        system.log(20)
        system.run(system.second + 5)
        system.receiver.close()
        if number % 2:
            system.run(system.second + 5, hears=False)
        system.hear()
    system.run(system.second + 45)
    assert not system.status["gaps"]
    lines = [each["record"]["n"] for each in written(system.place) if "record" in each]  # type: ignore[index]
    assert sorted(lines) == list(range(120))


def test_full_spool(system: Whole) -> None:
    system.log(400, size=50_000)
    system.run(10)
    system.accounted()
    assert system.status["dropped"] > 100
    assert news(system.receiver) == ["dropped"]
    assert len(system.sequences("dropped")) == system.status["dropped"]
    assert [each["dropped"]["reason"] for each in written(system.place) if "dropped" in each] == [  # type: ignore[index]
        "spool-full"
    ]


def test_full_receiver_disk(system: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object) -> int:
        raise OSError(28, "No space left on device")

    system.log(30)
    datagrams: list[bytes] = []
    system.spoil = lambda each: datagrams.append(each) or []  # type: ignore[func-returns-value]
    system.run(20)
    with monkeypatch.context() as patch:
        patch.setattr(segment_log, "os", SimpleNamespace(**{**vars(os), "write": write}))
        assert system.receiver.take(datagrams) == 0
    assert "is full" in system.status["troubles"]["archive"]
    assert system.receiver.unkept > 5
    system.spoil = lambda each: [each]
    system.run(60)
    assert system.whole


@pytest.mark.parametrize("jump", [-(10**9), 10**9, -NOW, 10**13])
def test_clock_jump(system: Whole, jump: int) -> None:
    """The node's clock decides nothing: epochs ascend, and passes follow a clock of their own."""
    system.log(30)
    system.run(10)
    system.wall += jump
    system.log(30)
    system.run(20)
    system.kill()
    system.start()
    system.log(30)
    system.run(30)
    assert system.whole


def test_receiver_started_late(system: Whole) -> None:
    system.log(30)
    system.run(10, hears=False)
    system.run(28, hears=False)
    system.log(30)
    system.run(29.9)
    system.accounted()
    (gap,) = system.status["gaps"]
    assert (gap["state"], gap["sequences"][0]) == ("open", 1)
    assert news(system.receiver) == ["gap-opened"]
    for each in as_datagrams(system.spool, [tuple(gap["blocks"])], WHO):
        system.receiver.take(each)
    system.receiver.feed()
    assert news(system.receiver) == ["gap-filled"]
    assert not system.status["gaps"]


def test_sender_restored_from_an_old_state(system: Whole, tmp_path: Path) -> None:
    system.log(20)
    system.run(10)
    system.kill()
    shutil.copytree(system.spool, tmp_path / "saved")
    system.start()
    system.log(20)
    system.run(20)
    system.kill()
    shutil.rmtree(system.spool)
    shutil.copytree(tmp_path / "saved", system.spool)
    system.start()
    system.log(40)
    system.run(40)
    assert system.status["forks"] > 0
    assert {"fork", "break"} <= {each["event"] for each in told(system.place)} | set(news(system.receiver))
    lines = [each["record"]["n"] for each in written(system.place) if "record" in each]  # type: ignore[index]
    assert sorted(lines) == list(range(80))


def test_two_nodes_with_one_key(system: Whole, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    system.kill()
    shutil.copytree(system.spool, tmp_path / "other/spool")
    system.start()
    other = Whole(tmp_path / "other")
    other.receiver.close()
    other.receiver, other.place, other.wall = system.receiver, system.place, NOW + 5000
    other.kill()
    other.start()
    for logged in (10, 20, 30):
        for each in (system, other):
            each.logged = logged
            each.log(10)
            each.run(each.second + 10)
    assert system.status["forks"] > 0
    assert "fork" in news(system.receiver)
    lines = [json.dumps(each["record"]) for each in written(system.place) if "record" in each]
    assert len(lines) == 60
    other.kill()
