"""``appliance hardware``: of recordings, of this machine, and what it ends with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.unit.hardware.nodes import RECORDED, h100_node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

DEFINITION = """\
format: 1
product: demo
version: "1"
sequence: 1
target: {distribution: debian, suite: trixie, architecture: amd64, python: "3.13"}
components:
  model: {kind: tiny-gguf, sentence: Hello., licence: CC0-1.0}
  engine: {kind: python, requirements: [xllamacpp]}
inference: {engine: engine, model: model, file: tiny.gguf, name: demo}
"""
NEEDS = "hardware: {gpu: h100-sxm, gpus: 8, nvswitches: 4}\n"
LOCAL = """\
format: 1
site: example
management: {networks: [10.20.0.0/28], operator: [10.20.0.1]}
nodes:
  gpu-01:
    connection: local
    address: 10.20.0.11
    interfaces: {mgmt: {match: {mac: "02:00:00:00:00:01"}, addresses: [10.20.0.11/24]}}
"""


@pytest.fixture
def definition(tmp_path: Path) -> Path:
    path = tmp_path / "asks.yaml"
    path.write_text(DEFINITION + NEEDS)
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "gpu-07.hardware.json"
    path.write_text(json.dumps(h100_node()))
    return path


def test_a_recording_is_judged_without_a_node(
    appliance: Callable[..., Outcome], recording: Path, definition: Path
) -> None:
    done = appliance("hardware", "--recorded", recording, "-d", definition)
    assert (done.code, done.err) == (0, "")
    assert "gpu-07  gpus" in done.out
    assert "8 h100-sxm" in done.out


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"disks": {"sda": {"size": "-5"}}}, "gpu-07: hardware: no machine has this: disk sda, sectors -5"),
        ({"meminfo": f"MemTotal: {10**26} kB"}, "gpu-07: hardware: no machine has this: memory in kB 1000"),
    ],
)
def test_a_recording_of_no_machine_ends_with_5_and_says_why(
    appliance: Callable[..., Outcome], recording: Path, changed: dict[str, object], told: str
) -> None:
    recording.write_text(json.dumps(h100_node(**changed)))
    done = appliance("hardware", "--recorded", recording)
    assert done.code == 5
    assert told in done.err
    assert "edited or damaged" in done.err


def test_a_machine_that_does_not_do_ends_with_5_and_the_table(
    appliance: Callable[..., Outcome], definition: Path
) -> None:
    recorded = RECORDED / "this-machine.json"
    done = appliance("hardware", "--recorded", recorded, "-d", definition)
    assert done.code == 5
    assert "this-machine  gpus" in done.out
    assert "error: 1 of 1 nodes are not what is needed" in done.err
    done = appliance("hardware", "--recorded", recorded, "-d", definition, "--json")
    assert done.code == 5
    values = done.json["nodes"]["this-machine"]
    assert values["fit"] is False
    assert [
        each["name"] for each in values["checks"] if each["passed"] is False and each["level"] == "must"
    ] == [
        "gpus",
        "nvswitches",
    ]


def test_this_machine_is_looked_at_and_kept(appliance: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "inventory.yml").write_text(LOCAL)
    kept = tmp_path / "evidence" / "new"
    done = appliance("hardware", "-i", tmp_path, "--keep", kept)
    assert done.code == 0, done.err
    again = appliance("hardware", "--recorded", kept / "gpu-01.hardware.json")
    assert again.out == done.out


WRONG = {
    "neither nodes nor recordings": ([], 2, "--inventory or --recorded"),
    "both": (["-i", "x", "--recorded", "y"], 2, "--inventory or --recorded"),
    "no such recording": (["--recorded", "missing.json"], 2, "is no recording"),
    "no such definition": (["--recorded", "R", "-d", "missing.yaml"], 3, "no definition"),
    "no such inventory": (["-i", "missing"], 3, "cannot read the inventory"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_said(
    appliance: Callable[..., Outcome], recording: Path, arguments: list[str], code: int, said: str
) -> None:
    done = appliance("hardware", *(recording if each == "R" else each for each in arguments))
    assert done.code == code
    assert said in done.err


def test_a_definition_that_asks_for_nothing_judges_nothing(
    appliance: Callable[..., Outcome], recording: Path, tmp_path: Path
) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text(DEFINITION)
    done = appliance("hardware", "--recorded", recording, "-d", path)
    assert done.code == 3
    assert "asks for no particular hardware" in done.err


@pytest.mark.parametrize("text", ["", "[]", "{", "7", "[" * 200_000], ids=range(5))
def test_a_file_that_is_no_recording_is_refused(
    appliance: Callable[..., Outcome], tmp_path: Path, text: str
) -> None:
    path = tmp_path / "x.hardware.json"
    path.write_text(text)
    done = appliance("hardware", "--recorded", path)
    assert done.code == 2
    assert "is no recording" in done.err
    path.write_text("{}")
    assert appliance("hardware", "--recorded", path).code == 5


def test_what_cannot_be_kept_is_said(
    appliance: Callable[..., Outcome], recording: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = appliance("hardware", "--recorded", recording, "--keep", tmp_path / "file")
    assert done.code == 2
    assert "nothing can be kept" in done.err
