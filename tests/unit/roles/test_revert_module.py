"""``timed_revert`` against the program's answers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

FIRED = {"armed": "2026-01-01T00:00:00Z", "fired": "2026-01-01T00:02:00Z", "faults": []}


@pytest.fixture(scope="module")
def revert(role_module: Callable[[str], Any]) -> Any:
    return role_module("revert/library/timed_revert.py")


def program(answer: dict[str, Any]) -> str:
    """A program that gives one answer and writes down how it was called."""
    return f'#!/bin/sh\necho "$@" >> "$0.calls"\necho \'{json.dumps(answer)}\'\n'


def module(files: dict[str, str] | None = None, *, check: bool = False, **parameters: Any) -> Any:
    told: list[str] = []
    parameters = {
        "files": files or {},
        "after": 60,
        "required": False,
        "run": "",
        "fresh": True,
        **parameters,
    }
    return SimpleNamespace(params=parameters, check_mode=check, warn=told.append, told=told)


def calls(path: Path) -> list[str]:
    record = path.with_name(f"{path.name}.calls")
    return record.read_text().splitlines() if record.exists() else []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "appliance-revert"


IDLE = {"pending": False, "armed": None, "fired": None, "refused": ""}


def test_the_program_is_installed_once_for_root_alone(revert: Any, path: Path) -> None:
    files = {str(path.parent / "lib/part.py"): "# part\n", str(path): program(IDLE)}
    assert revert.ready(module(files), str(path))["changed"] is True
    assert path.read_text() == program(IDLE)
    assert (path.parent / "lib/part.py").read_text() == "# part\n"
    assert path.stat().st_mode & 0o777 == 0o700
    assert revert.ready(module(files), str(path))["changed"] is False


def test_check_mode_installs_nothing_and_runs_nothing(revert: Any, path: Path) -> None:
    found = revert.ready(module({str(path): program(IDLE)}, check=True), str(path))
    assert (found["changed"], found["pending"]) == (True, False)
    assert not path.exists()


def test_a_change_that_is_still_pending_gets_its_full_time_again(revert: Any, path: Path) -> None:
    """Otherwise the timer of an interrupted run could fire in the middle of this one."""
    found = revert.ready(module({str(path): program({**IDLE, "pending": True})}), str(path))
    assert found["pending"] is True
    assert calls(path) == ["status", f"arm --after 60 --run {found['run']}"]


def test_each_run_has_a_name_of_its_own(revert: Any, path: Path) -> None:
    names = {revert.ready(module({str(path): program(IDLE)}), str(path))["run"] for _ in range(9)}
    assert len(names) == 9


def test_the_parts_of_the_program_are_on_the_disk_before_the_first_gets_its_name(
    revert: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer that runs needs them to fit each other."""
    order: list[str] = []
    replace, fsync = Path.replace, os.fsync
    monkeypatch.setattr(Path, "replace", lambda *words: (order.append("name"), replace(*words))[1])
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("disk"), fsync(descriptor))[1])
    revert.install(
        {str(path): "a", str(path.parent / "lib/one.py"): "b", str(path.parent / "lib/two.py"): "c"}
    )
    assert order == [*["disk"] * 3, *["name"] * 3, *["disk"] * 2]


def test_nothing_is_armed_without_need(revert: Any, path: Path) -> None:
    revert.ready(module({str(path): program(IDLE)}), str(path))
    assert calls(path) == ["status"]


def test_a_change_that_was_undone_is_told(revert: Any, path: Path) -> None:
    asked = module({str(path): program({**IDLE, "fired": FIRED})})
    revert.ready(asked, str(path))
    assert asked.told == [
        (
            "a network change armed at 2026-01-01T00:00:00Z was never confirmed and was undone at "
            "2026-01-01T00:02:00Z (the node's clock); what had been saved is in "
            "/var/lib/appliance/revert/last"
        )
    ]


def test_faults_while_undoing_are_told_too(revert: Any) -> None:
    assert "with trouble (units: no)" in revert.undone({**FIRED, "faults": ["units: no"]})


@pytest.mark.parametrize(
    ("confirmed", "required", "changed"), [(True, True, True), (True, False, True), (False, False, False)]
)
def test_confirming(revert: Any, path: Path, *, confirmed: bool, required: bool, changed: bool) -> None:
    path.write_text(program({**IDLE, "confirmed": confirmed}))
    path.chmod(0o755)
    assert revert.confirmed(module(required=required), str(path))["changed"] is changed


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"run": "a1"}, "confirm --run a1 --fresh"),
        ({"run": "a1", "fresh": False}, "confirm --run a1"),
        ({}, "confirm --fresh"),
    ],
)
def test_who_confirms_and_over_what_is_the_programs_to_judge(
    revert: Any, path: Path, parameters: dict[str, Any], words: str
) -> None:
    path.write_text(program({**IDLE, "confirmed": True}))
    path.chmod(0o755)
    revert.confirmed(module(**parameters), str(path))
    assert calls(path) == [words]


@pytest.mark.parametrize("required", [True, False])
def test_a_confirmation_that_does_not_count_fails_with_the_reason(
    revert: Any, path: Path, *, required: bool
) -> None:
    path.write_text(program({**IDLE, "pending": True, "confirmed": False, "refused": "it is too old"}))
    path.chmod(0o755)
    with pytest.raises(revert.Fault, match="does not count, and the change will be undone: it is too old"):
        revert.confirmed(module(required=required), str(path))


@pytest.mark.parametrize(
    ("fired", "told"), [(FIRED, "was undone at 2026-01-01T00:02:00Z"), (None, "no change is")]
)
def test_a_confirmation_that_is_required_and_comes_too_late_fails(
    revert: Any, path: Path, fired: Any, told: str
) -> None:
    path.write_text(program({**IDLE, "confirmed": False, "fired": fired}))
    path.chmod(0o755)
    with pytest.raises(revert.Fault, match=f"the change of this run cannot be confirmed: .*{told}"):
        revert.confirmed(module(required=True), str(path))


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "cannot be run"), ("#!/bin/sh\necho broken >&2; exit 1\n", "ended with 1: broken")],
)
def test_a_program_that_cannot_answer_is_a_fault(
    revert: Any, path: Path, text: str | None, told: str
) -> None:
    if text:
        path.write_text(text)
        path.chmod(0o755)
    with pytest.raises(revert.Fault, match=told):
        revert.confirmed(module(), str(path))
