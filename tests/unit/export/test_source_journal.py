"""The journal: every entry once, whatever ends in between, and a word where entries are gone."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import ToolMissing
from appliance.export.sources.journal import JournalSource
from appliance.export.sources.journal_cursor import cursor_in, entry_of, passed_over
from appliance.export.sources.lines import Line, Lines
from tests.unit.export.journals import Journal
from tests.unit.export.nodes import NOW

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.export.sources.source import Taken

_PATIENCE = 60
ONE = "s=aa;i=9;b=bb;m=1;t=2;x=3"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def source(journal: Journal) -> Iterator[JournalSource]:
    journal.log(b"one", b"two", b"three")
    made = JournalSource("", directory=journal.folder, now=lambda: NOW)
    yield made
    made.close()


def some(source: JournalSource, count: int) -> list[Taken]:
    """So many records, however busy the machine is."""
    found: list[Taken] = []
    end = time.monotonic() + _PATIENCE
    while len(found) < count:
        assert time.monotonic() < end, f"only {len(found)} came"
        got = source.read()
        found += got
        if not got:
            time.sleep(0.02)
    return found


def values(taken: Taken) -> dict[str, Any]:
    found = json.loads(taken.record)
    assert isinstance(found, dict)
    return found


def messages(found: list[Taken]) -> list[object]:
    return [values(each).get("MESSAGE", values(each).get("withheld")) for each in found]


def test_entries_come_in_order_and_go_on_as_they_are_logged(
    source: JournalSource, journal: Journal
) -> None:
    assert messages(some(source, 3)) == ["one", "two", "three"]
    journal.log(b"four")
    assert messages(some(source, 1)) == ["four"]


def test_a_restart_goes_on_behind_the_last_one_that_was_kept(
    source: JournalSource, journal: Journal
) -> None:
    kept = some(source, 3)[1].position
    again = JournalSource(kept, directory=journal.folder)
    journal.log(b"four")
    assert messages(some(again, 2)) == ["three", "four"]
    again.close()


def test_bytes_that_are_no_text_and_long_fields_come_whole(journal: Journal) -> None:
    """Journalctl leaves long fields out unless it is told not to."""
    journal.log(b"x" * 50_000, b"\xff\0\n", b'"__CURSOR":"s=0;i=0"')
    source = JournalSource("", directory=journal.folder)
    long, odd, forged = some(source, 3)
    source.close()
    assert values(long)["MESSAGE"] == "x" * 50_000
    assert values(odd)["MESSAGE"] == [255, 0, 10]
    assert forged.position == values(forged)["__CURSOR"]


def test_a_journal_that_was_thrown_away_is_said(source: JournalSource, journal: Journal) -> None:
    kept = some(source, 3)[2].position
    shutil.rmtree(journal.folder)
    journal.log(b"later")
    again = JournalSource(kept, directory=journal.folder, now=lambda: NOW)
    word, later = some(again, 2)
    again.close()
    assert word.stated
    assert values(word) == {
        "stream": "journal",
        "time": NOW,
        "withheld": "lost-at-source",
        "count": None,
        "after": kept,
        "before": later.position,
    }
    assert messages([later]) == ["later"]


def test_entries_whose_numbers_are_passed_over_are_counted(source: JournalSource) -> None:
    """Journalctl says nothing when journald removes a file that it had not read yet."""
    some(source, 3)
    place = source._cursor.replace(";i=3;", ";i=%x;")
    lines = [b'{"MESSAGE":"%d","__CURSOR":"%s"}' % (each, (place % each).encode()) for each in (4, 7, 6, 8)]
    found = [taken for line in lines for taken in source._entry(Line(line, len(line)))]
    assert messages(found) == ["4", "lost-at-source", "7", "6", "8"]
    assert values(found[1])["count"] == 2
    assert found[1].position == ""


def test_an_entry_that_is_too_long_is_a_word_and_none_is_missed(
    monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    journal.log(b"one", b"x" * 5000, b"three")
    monkeypatch.setattr("appliance.export.sources.journal.MAX_TAKEN", 1000)
    source = JournalSource("", directory=journal.folder, now=lambda: NOW)
    found = some(source, 3)
    source.close()
    assert messages(found) == ["one", "too-long", "three"]
    assert values(found[1])["bytes"] > 5000


def test_a_program_that_ends_is_started_again_where_it_was(source: JournalSource, journal: Journal) -> None:
    some(source, 3)
    assert source._process
    source._process.kill()
    source._process.wait()
    assert source.read() == []
    assert "journalctl ended" in source.trouble
    journal.log(b"four")
    assert source.read() == []  # not at once: a program that cannot run would be started without end
    source._again = 0.0
    assert messages(some(source, 1)) == ["four"]
    assert source.trouble == ""


def test_without_journalctl_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolMissing):
        JournalSource("")


@pytest.mark.parametrize(
    ("cursor", "entry"),
    [
        (ONE, ("aa", 9)),
        ("i=f;s=aa", ("aa", 15)),
        ("", None),
        ("s=aa", None),
        ("i=1", None),
        ("s=aa;i=g", None),
    ],
)
def test_of_a_cursor_sequence_and_number_are_read(cursor: str, entry: tuple[str, int] | None) -> None:
    assert entry_of(cursor) == entry


@pytest.mark.parametrize(
    ("now", "count"),
    [
        (ONE.replace("i=9", "i=a"), 0),
        (ONE.replace("i=9", "i=10"), 6),
        (ONE.replace("i=9", "i=1"), 0),
        (ONE.replace("s=aa", "s=ab"), None),
        ("", None),
    ],
)
def test_what_is_missing_follows_from_the_numbers(now: str, count: int | None) -> None:
    assert passed_over(ONE, now) == count


def test_a_cursor_in_a_text_is_none() -> None:
    text = json.dumps({"MESSAGE": '"__CURSOR":"s=0;i=0"', "X": '\\","__CURSOR":"s=1;i=1"'}).encode()
    assert cursor_in(text) == ""
    assert cursor_in(text[:-1] + b',"__CURSOR":"%s"}' % ONE.encode()) == ONE


def test_a_line_takes_no_more_memory_than_it_may() -> None:
    lines = Lines(4)
    assert lines.feed(b"abc") == []
    assert lines.feed(b"def\ng") == [Line(b"abcd", 6)]
    for _ in range(100):
        assert lines.feed(b"h" * 100) == []
        assert len(lines._rest) <= 4
    assert lines.feed(b"\nlonger\n\nx") == [Line(b"ghhh", 10_001), Line(b"long", 6), Line(b"", 0)]
    assert lines.end() == [Line(b"x", 1)]
    assert lines.end() == []
