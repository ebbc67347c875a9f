"""Progress in a log: few lines, true numbers, no escape codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.progress import Bars, Lines

if TYPE_CHECKING:
    import pytest


class Clock:
    """A clock that only moves when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_short_phase_is_one_line_however_many_items(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.begin("verify", 1000, 5_000_000)
    for index in range(1000):
        lines.advance(5_000)
        lines.item(f"file-{index}")
    clock.now = 1.5
    lines.end()
    assert capsys.readouterr().err == "verify: 1000 of 1000, 5.0 of 5.0 MB in 1.5 s\n"


def test_a_long_phase_tells_where_it_is_every_two_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.begin("stage", 2, 8_000_000)
    for _ in range(8):
        clock.now += 1
        lines.advance(1_000_000)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"stage: 0 of 2, {done}.0 of 8.0 MB" for done in (2, 4, 6, 8)]


def test_a_new_phase_closes_the_one_before(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Clock())
    lines.begin("resolve", 1)
    lines.item("system")
    lines.begin("fetch", 3)
    assert capsys.readouterr().err == "resolve: 1 of 1 in 0.0 s\n"


def test_an_ended_phase_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Clock())
    lines.begin("resolve", 1)
    lines.end()
    lines.end()
    assert capsys.readouterr().err.count("resolve") == 1


def test_results_stay_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(Clock())
    lines.note("a note")
    assert capsys.readouterr() == ("", "a note\n")


def test_what_is_long_beside_a_phase_has_lines_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines(clock)
    lines.begin("fetch", 1, 8_000_000)
    lines.advance(8_000_000)
    with lines.beside("compare weights", 8_000_000) as advance:
        for _ in range(8):
            clock.now += 1
            advance(1_000_000)
    told = capsys.readouterr().err.splitlines()
    assert told == [f"compare weights: {done}.0 of 8.0 MB" for done in (2, 4, 6, 8)]


def test_what_is_soon_done_beside_a_phase_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(Clock()).beside("compare weights", 8_000_000) as advance:
        advance(8_000_000)
    assert not capsys.readouterr().err


def test_on_a_terminal_it_has_a_bar_below_the_phase_s_while_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which makes rich take this for a terminal
    monkeypatch.setenv("COLUMNS", "120")
    bars = Bars()
    bars.begin("fetch", 1, 8_000_000)
    with bars.beside("compare weights", 8_000_000) as advance:
        advance(2_000_000)
        assert bars._bars
        bars._bars.refresh()
        during = capsys.readouterr().err
    bars.end()
    assert "compare weights" in during
    assert "2.0/8.0 MB" in during
    assert "compare weights" not in capsys.readouterr().err.rpartition("fetch")[2]


def test_where_no_phase_runs_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars().beside("compare weights", 8_000_000) as advance:
        advance(1)
    assert not capsys.readouterr().err
