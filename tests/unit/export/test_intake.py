"""From sources to the spool: nobody waits, what can wait does, and only what is on the disk is settled."""

from __future__ import annotations

import json
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from appliance.errors import SpoolFull
from appliance.export.block import BlockKind, parse_block
from appliance.export.exporter import Exporter
from appliance.export.intake import Intake
from appliance.export.moments import moment
from appliance.export.payload import records_of
from appliance.export.sources.local import LineSource
from appliance.export.sources.source import Taken, tombstone
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.nodes import chance, identity

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = identity()


class Well:
    """A source that has everything at once, in handfuls."""

    def __init__(self, name: str, *, patient: bool, handfuls: list[list[Taken]]) -> None:
        self.name, self.patient, self.ended, self.trouble = name, patient, False, ""
        self.left = deque(handfuls)
        self.reads = 0
        self.told: list[str] = []
        self.kept_back: list[Taken] = []

    def fileno(self) -> int:
        return -1

    def read(self) -> list[Taken]:
        self.reads += 1
        return self.left.popleft() if self.left else []

    def rest(self) -> list[Taken]:
        return self.kept_back

    def settled(self, position: str) -> None:
        self.told.append(position)

    def close(self) -> None:
        pass


def handfuls(count: int) -> list[list[Taken]]:
    """So many of ten records of 60 kB that do not compress."""
    return [
        [
            Taken(chance((place, number)).randbytes(60_000), str(place * 10 + number + 1))
            for number in range(10)
        ]
        for place in range(count)
    ]


@contextmanager
def taking(folder: Path, *sources: Well, stop: bool = False, select: object = None) -> Iterator[Intake]:
    spool = Spool(str(folder), WHO.sender, limit=MIN_LIMIT, new=True)
    exporter = Exporter(WHO, spool, moment(), stop_when_full=stop)
    with Intake(sources, exporter, select) as intake:  # type: ignore[arg-type] # as the tests have it
        yield intake
    spool.close()


def look(intake: Intake, times: int) -> None:
    for _ in range(times):
        intake._look = 0.0
        intake.read(0.0)


def kept(intake: Intake) -> list[bytes]:
    spool = intake._exporter.spool
    found, block = [], 0
    while (stored := spool.read(block)) is not None:
        block = stored.header.block + 1
        if stored.header.kind is BlockKind.RECORDS:
            found += records_of(parse_block(stored.data))
    return found


def test_a_patient_source_is_not_read_while_the_spool_is_full_and_loses_nothing(tmp_path: Path) -> None:
    offered = handfuls(20)
    everything = [each.record for handful in offered for each in handful]
    well = Well("journal", patient=True, handfuls=offered)
    with taking(tmp_path, well) as intake:
        look(intake, 30)
        assert 0 < len(well.left) < 10
        assert intake.status()["journal"]["waits"]
        reads = well.reads
        look(intake, 5)
        assert well.reads == reads
        exporter = intake._exporter
        while well.left or intake.status()["journal"]["waits"]:
            exporter.seal(moment())
            exporter.sync(moment())
            found = kept(intake)
            exporter.passes.next = [exporter.passes.end] * 3  # everything was sent: the oldest may go
            look(intake, 1)
        exporter.seal(moment())
        assert intake.records == 200
        assert intake.dropped == 0
        assert exporter.spool.state.dropped == 0
        assert kept(intake)[-1] == everything[-1]
        assert found == everything[everything.index(found[0]) :][: len(found)]
        assert exporter.next_sequence == 201


def test_any_other_source_is_read_and_what_has_no_room_is_dropped_with_a_word(tmp_path: Path) -> None:
    well = Well("socket", patient=False, handfuls=handfuls(20))
    with taking(tmp_path, well) as intake:
        look(intake, 20)
        assert not well.left
        assert intake.records == 200
        assert 0 < intake.dropped < 200
        intake._exporter.checkpoint({}, moment())
        assert intake._exporter.spool.state.dropped == intake.dropped


def test_a_full_spool_keeps_no_other_source_waiting(tmp_path: Path) -> None:
    patient = Well("journal", patient=True, handfuls=handfuls(20))
    other = Well("socket", patient=False, handfuls=[[Taken(b"x")] for _ in range(40)])
    with taking(tmp_path, patient, other) as intake:
        look(intake, 40)
        assert patient.left
        assert not other.left


def test_by_policy_a_full_spool_stops_it_although_the_source_could_wait(tmp_path: Path) -> None:
    well = Well("journal", patient=True, handfuls=handfuls(20))
    with taking(tmp_path, well, stop=True) as intake, pytest.raises(SpoolFull):
        look(intake, 20)
    assert intake._exporter.full is None, "nothing was dropped"


def test_by_policy_what_cannot_wait_is_all_counted_before_the_end(tmp_path: Path) -> None:
    well = Well("socket", patient=False, handfuls=handfuls(20))
    with taking(tmp_path, well, stop=True) as intake:
        look(intake, 20)
        assert isinstance(intake._exporter.full, SpoolFull)
        intake._exporter.checkpoint({}, moment(), last=True)
        assert intake._exporter.spool.state.dropped == intake.dropped > 0
        assert intake._exporter.spool.state.head.sequence == 201


def test_a_source_is_told_of_what_is_on_the_disk_and_of_nothing_else(tmp_path: Path) -> None:
    well = Well("checks", patient=True, handfuls=[[Taken(b"one", "1"), Taken(b"two", "2")]])
    with taking(tmp_path, well) as intake:
        look(intake, 1)
        intake.settle()
        assert well.told == []
        intake._exporter.seal(moment())
        intake.settle()
        assert well.told == []
        intake._exporter.sync(moment())
        intake.settle()
        intake.settle()
        assert well.told == ["2"]


def test_a_source_s_own_word_is_not_withheld(tmp_path: Path) -> None:
    word = tombstone("journal", "lost-at-source", 1, count=3)
    well = Well("journal", patient=True, handfuls=[[Taken(b"secret"), Taken(word, stated=True)]])
    with taking(tmp_path, well, select=lambda _: b"withheld") as intake:
        look(intake, 1)
        intake._exporter.seal(moment())
        assert kept(intake) == [b"withheld", word]


def test_a_record_that_is_too_long_stops_no_patient_source(tmp_path: Path) -> None:
    well = Well("a", patient=True, handfuls=[[Taken(bytes(70_000), "1"), Taken(b"after", "2")]])
    with taking(tmp_path, well) as intake:
        look(intake, 1)
        intake._exporter.seal(moment())
        intake._exporter.sync(moment())
        assert kept(intake) == [b"after"]
        assert intake._exporter.spool.state.dropped == 1
        assert intake._exporter.settled == {"a": "2"}


def test_at_the_end_what_was_given_is_taken_and_what_can_wait_waits(tmp_path: Path) -> None:
    given, waits = Well("socket", patient=False, handfuls=[]), Well("journal", patient=True, handfuls=[])
    given.kept_back, waits.kept_back = [Taken(b"given")], [Taken(b"waits", "1")]
    with taking(tmp_path, given, waits) as intake:
        intake.last()
        intake._exporter.seal(moment())
        assert kept(intake) == [b"given"]


def test_what_a_source_cannot_do_is_told_once_and_that_it_can_again(tmp_path: Path) -> None:
    well = Well("journal", patient=True, handfuls=[])
    with taking(tmp_path, well) as intake:
        assert intake.news(moment()) == []
        told = []
        for trouble in ("journalctl ended with 1", "journalctl ended with 1", ""):
            well.trouble = trouble
            told.append([json.loads(each) for each in intake.news(moment())])
    (first,), second, (third,) = told
    assert (first["stream"], second) == ("export", [])
    assert first["fields"] == {
        "event": "source",
        "source": "journal",
        "trouble": "journalctl ended with 1",
        "MESSAGE": "the source journal: journalctl ended with 1",
    }
    assert (third["fields"]["trouble"], third["fields"]["MESSAGE"]) == (
        "",
        "the source journal: reads again",
    )


def test_an_end_is_noticed_with_what_came_before_it(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo")
    (tmp_path / "spool").mkdir()
    with path.open("rb") as file:
        source = LineSource(file.fileno())
        with taking(tmp_path / "spool", source) as intake:  # type: ignore[arg-type] # a source, too
            while not intake.ended:
                intake.read(1.0)
            assert intake.records == 2
