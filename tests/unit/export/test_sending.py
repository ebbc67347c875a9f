"""From a node's records to a receiver, over a line that loses: by a clock that the test turns."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from appliance.export.block import BlockKind
from appliance.export.exporter import Exporter, Moment
from appliance.export.pacing import TokenBucket
from appliance.export.packet import PacketKind, parse_packet
from appliance.export.payload import records_of
from appliance.export.reception import Reception
from appliance.export.sending import Sending, interleaved
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.nodes import NOW, chance, identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHO = identity()


class Line:
    """A sender with its spool, a line, a receiver, and one clock for all."""

    def __init__(
        self, folder: Path, *, rate: float = 1e9, idle: float | None = None, constant: bool = False
    ) -> None:
        new = not any(folder.iterdir())
        self.spool = Spool(str(folder), WHO.sender, limit=8 * MIN_LIMIT, new=new)
        self.second = 0.0
        self.exporter = Exporter(WHO, self.spool, self.now)
        bucket = TokenBucket(idle, 1) if idle else None
        self.sending = Sending(
            WHO, self.exporter, TokenBucket(rate, 64_000), idle=bucket, constant=constant
        )
        self.receiver = Reception([WHO.sender])
        self.found: list[bytes] = []
        self.sent: list[tuple[float, bytes]] = []

    @property
    def now(self) -> Moment:
        return Moment(self.second, NOW + int(self.second * 1000))

    def log(self, *records: bytes) -> None:
        """Records that are sealed and may leave."""
        for each in records:
            assert self.exporter.offer(each, self.now)
        self.exporter.seal(self.now)
        self.exporter.sync(self.now)

    def checkpoint(self) -> None:
        made = self.exporter.checkpoint({}, self.now)
        assert made
        self.sending.announce(*made, self.now)

    def run(self, until: float, arrives: Callable[[float], bool] = lambda _: True) -> None:
        """Send what there is until that second; ``arrives`` says whether a datagram does."""
        while self.second < until:
            while burst := self.sending.burst(self.now):
                for datagram in burst:
                    self._arrive(datagram, arrives)
            self.second = min(until, self.second + max(self.sending.wait(self.now), 1e-4))

    def _arrive(self, datagram: bytes, arrives: Callable[[float], bool]) -> None:
        self.sent.append((self.second, datagram))
        if arrives(self.second) and (arrival := self.receiver.take(datagram)) is not None:
            self.receiver.accept(arrival)
            if arrival.block and arrival.block.header.kind is BlockKind.RECORDS:
                self.found += records_of(arrival.block)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in self.receiver.ledgers[WHO.node].gaps()]


def sizable(count: int) -> list[bytes]:
    return [chance(number).randbytes(40_000) for number in range(count)]


def test_what_is_logged_arrives_at_once(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.log(b"one", b"two")
    line.run(0.1)
    assert line.found == [b"one", b"two"]


def test_each_block_leaves_three_times_as_the_same_datagrams(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.log(*sizable(3))
    line.run(700)
    counts = Counter(datagram for _, datagram in line.sent)
    assert set(counts.values()) == {3}
    seconds = sorted({round(second) for second, _ in line.sent})
    assert (seconds[0], seconds[-1]) == (0, 600)
    assert 30 in seconds


def test_a_blackout_is_made_good_by_the_second_pass(tmp_path: Path) -> None:
    line = Line(tmp_path, rate=2_000_000)
    records = sizable(60)
    line.log(*records)
    line.run(20, lambda second: not 0.3 < second < 0.8)
    line.checkpoint()
    line.run(29, lambda second: not 0.3 < second < 0.8)
    assert line.gaps
    assert len(line.found) < 60
    line.run(60)
    assert line.gaps == []
    assert sorted(line.found) == sorted(records)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1, 0.2])
def test_loss_up_to_a_fifth_is_made_good_by_the_passes(tmp_path: Path, loss: float) -> None:
    luck = chance(loss)
    line = Line(tmp_path)
    records = sizable(60)
    line.log(*records)
    line.checkpoint()
    line.run(700, lambda _: luck.random() >= loss)
    assert line.gaps == []
    assert sorted(line.found) == sorted(records)
    counts = line.receiver.counts[WHO.node]
    assert counts.repaired > 0
    assert not counts.refused


def test_new_blocks_overtake_old_ones_which_go_on_after_them(tmp_path: Path) -> None:
    line = Line(tmp_path, rate=1_000_000)
    line.log(*sizable(60))
    line.run(30.2)
    line.log(b"live")
    line.run(30.5)
    assert line.found[-1] == b"live"
    late = [parse_packet(each, WHO.tag_key).coded.number for second, each in line.sent if second > 30]
    live = line.spool.state.head.block - 1
    assert 0 < late.index(live) < len(late) - 5
    line.run(40)
    assert set(Counter(each for _, each in line.sent).values()) == {2, 1}


def test_no_more_leaves_in_any_second_than_the_rate_allows(tmp_path: Path) -> None:
    rate = 500_000
    line = Line(tmp_path, rate=rate)
    line.log(*sizable(40))
    line.run(10)
    assert len(line.found) == 40
    for second in range(10):
        size = sum(len(each) for at, each in line.sent if second <= at < second + 1)
        assert size <= rate + (64_000 if second == 0 else 0) + 3000


def test_a_checkpoint_leaves_in_copies_over_seconds_and_one_is_enough(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.log(b"one")
    line.run(0.1)
    line.checkpoint()
    line.run(10, lambda second: second > 2.5)
    copies = [
        second
        for second, each in line.sent
        if parse_packet(each, WHO.tag_key).coded.kind is PacketKind.CHECKPOINT
    ]
    assert len(copies) == 5
    assert copies[-1] - copies[0] == pytest.approx(2.8, abs=0.1)
    assert line.receiver.counts[WHO.node].checkpoints == 1


def test_an_idle_line_replays_what_had_all_its_passes(tmp_path: Path) -> None:
    line = Line(tmp_path, idle=20_000)
    records = sizable(10)
    line.log(*records)
    line.checkpoint()
    line.run(605, lambda _: False)
    assert line.found == []
    line.run(700)
    assert sorted(line.found) == sorted(records)
    idle = sum(len(each) for second, each in line.sent if second > 610)
    assert idle <= 20_000 * 90 + 100_000


def test_full_blocks_leave_in_bursts_that_the_system_takes_whole(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.run(0.1)
    line.log(*sizable(12))
    bursts = []
    while burst := line.sending.burst(line.now):
        assert len(set(map(len, burst))) == 1
        bursts.append(sum(map(len, burst)))
        line.second += 1.0
        if len(bursts) == 5:
            break
    assert min(bursts) > 60_000
    assert max(bursts) <= 65_507


def test_without_anything_to_send_the_sender_sleeps(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.run(0.1)
    assert line.sending.burst(line.now) == []
    assert line.sending.wait(line.now) == 1.0


def test_a_restart_sends_what_was_not_sent_yet(tmp_path: Path) -> None:
    line = Line(tmp_path)
    records = sizable(10)
    line.log(*records)
    line.spool.close()
    again = Line(tmp_path)
    again.run(1)
    assert sorted(again.found) == sorted(records)
    again.checkpoint()
    again.run(2)
    assert again.gaps == []


def test_after_a_restart_later_passes_go_on(tmp_path: Path) -> None:
    line = Line(tmp_path)
    records = sizable(10)
    line.log(*records)
    line.run(1, lambda _: False)
    line.checkpoint()
    line.spool.close()
    again = Line(tmp_path)
    again.run(29)
    assert again.found == []
    again.run(32)
    assert sorted(again.found) == sorted(records)


def test_lists_are_interleaved() -> None:
    assert list(interleaved([[b"a", b"b"], [b"c"], [b"d", b"e"]])) == [b"a", b"c", b"d", b"b", b"e"]
    assert not interleaved([])


def test_blocks_that_are_due_together_leave_interleaved(tmp_path: Path) -> None:
    line = Line(tmp_path)
    line.run(0.1)
    line.sent.clear()
    for record in sizable(4):
        assert line.exporter.offer(record, line.now)
        line.exporter.seal(line.now)
    line.exporter.sync(line.now)
    line.run(0.2)
    numbers = [parse_packet(each, WHO.tag_key).coded.number for _, each in line.sent]
    assert numbers[:8] == [1, 2, 3, 4] * 2
    assert all(
        len(set(each)) == 4 for each in itertools.islice(zip(*[iter(numbers)] * 4, strict=False), 20)
    )


def test_each_block_is_looked_for_where_the_one_before_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a segment is read from its beginning for every block of it."""
    line = Line(tmp_path)
    line.run(0.1)
    looked, real = [], line.spool.read

    def read(block: int, near: object = None) -> object:
        looked.append(near)
        return real(block, near)  # type: ignore[arg-type]

    monkeypatch.setattr(line.spool, "read", read)
    line.log(*sizable(30))
    line.run(0.2)
    assert len(looked) > 10
    assert None not in looked
