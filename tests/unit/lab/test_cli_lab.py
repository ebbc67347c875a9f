"""The command line: every wrong call has its exit code, and changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.errors import ApplianceError

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner()


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPLIANCE_LAB_FOLDER", str(tmp_path / "labs"))
    monkeypatch.setenv("APPLIANCE_LAB_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (["up", "Ward"], "Usage", 2),
        (["up", "x" * 33], "Usage", 2),
        (["up", "ward-01"], "Usage", 2),
        (["up", "--nodes", "0"], "Usage", 2),
        (["up", "--nodes", "65"], "Usage", 2),
        (["down", "../etc"], "Usage", 2),
        (["up", "--capture"], "Usage", 2),
        (["up", "--from-scratch"], "Usage", 2),
        (["up", "--bond"], "Usage", 2),
        (["up", "--tpm"], "Usage", 2),
        (["up", "--drives", "1"], "Usage", 2),
        (["up", "--machine", "--drives", "9"], "Usage", 2),
        (["up", "--machine", "--drives", "-1"], "Usage", 2),
        (["console", "ward", "--follow", "--json"], "Usage", 2),
        (["console", "ward"], "LabFailed", 7),
        (["power", "cut", "ward"], "LabFailed", 7),
        (["power", "on", "ward"], "LabFailed", 7),
        (["power", "reset", "ward"], "LabFailed", 7),
        (["tpm", "pull", "ward"], "LabFailed", 7),
        (["tpm", "put", "ward"], "LabFailed", 7),
        (["tpm", "new", "ward"], "LabFailed", 7),
    ],
)
def test_wrong_names_and_numbers(
    folders: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: str, code: int
) -> None:
    monkeypatch.setattr("appliance.lab.power.require_root", lambda: None)
    result = runner.invoke(app, ["lab", *arguments])
    assert isinstance(result.exception, ApplianceError)
    assert (result.exception.name, result.exception.exit_code) == (error, code)
    assert list(folders.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--nodes", "two"],
        ["up", "--timeout", "0"],
        ["up", "a", "b"],
        ["shell"],
        ["reset"],
        ["power"],
        ["power", "cut"],
        ["power", "off", "ward"],
        ["tpm"],
        ["tpm", "pull"],
        ["up", "--drives", "two"],
        ["console", "ward", "--lines", "0"],
    ],
)
def test_wrong_words_are_usage(folders: Path, arguments: list[str]) -> None:
    assert runner.invoke(app, ["lab", *arguments]).exit_code == 2
    assert list(folders.iterdir()) == []


def test_down_with_nothing_there_says_so() -> None:
    assert runner.invoke(app, ["lab", "down"]).output == "nothing to remove\n"
    result = runner.invoke(app, ["lab", "down", "--all", "--json"])
    assert (result.exit_code, json.loads(result.output)) == (0, {"removed": []})


def test_status_with_nothing_there_says_so() -> None:
    assert runner.invoke(app, ["lab", "status"]).output == "no lab is up\n"
    assert json.loads(runner.invoke(app, ["lab", "status", "--json"]).output) == {"labs": []}


def test_a_half_made_lab_is_shown_and_taken_down(folders: Path) -> None:
    (folders / "labs/ward").mkdir(parents=True)
    assert runner.invoke(app, ["lab", "status"]).output == "ward  half-made; take it down\n"


def test_a_damaged_state_file_is_named_and_kept(folders: Path) -> None:
    state = folders / "labs/ward/state.json"
    state.parent.mkdir(parents=True)
    state.write_text("{}")
    result = runner.invoke(app, ["lab", "status"])
    assert isinstance(result.exception, ApplianceError)
    assert result.exception.name == "LabFailed"
    assert state.read_text() == "{}"
