"""Progress in a log: few lines, true numbers, no escape codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.progress import Lines

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
