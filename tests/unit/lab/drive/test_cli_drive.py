"""``appliance lab drive`` and ``drive-order``: from the command line to a host and back."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.errors import ApplianceError
from tests.unit.lab.drive.initiator import attach

if TYPE_CHECKING:
    from pathlib import Path

runner = CliRunner()
PROGRAM = [sys.executable, "-c", "from appliance.cli.app import main; main()", "lab"]


def read_object(stream: Any) -> dict[str, Any]:
    text = ""
    for line in stream:
        text += line
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            continue
        return found
    raise AssertionError(f"no JSON object: {text}")


def test_drives_are_plugged_in_ordered_about_and_pulled_out(tmp_path: Path) -> None:
    images = [tmp_path / "a.img", tmp_path / "b.img"]
    control = tmp_path / "control"
    given = [part for image in images for part in ("--image", str(image))]
    arguments = [*given, "--size", "16M", "--listen", "127.0.0.1:0", "--control", str(control), "--json"]
    command = [*PROGRAM, "drive", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as served:
        try:
            told = read_object(served.stdout)
            address = (told["address"], told["port"])
            first, second = (drive["serial"] for drive in told["drives"])
            admin, io = attach(address, told["drives"][0]["nqn"])
            assert io.write(0, b"x" * 512).status == 0
            result = runner.invoke(
                app, ["lab", "drive-order", str(control), "power-off", "--drive", first, "--json"]
            )
            assert (json.loads(result.output)["serial"], json.loads(result.output)["powered"]) == (
                first,
                False,
            )
            with pytest.raises(ConnectionError):
                io.read(0, 1)
            result = runner.invoke(
                app, ["lab", "drive-order", str(control), "cut-power", "after=2", "--drive", second]
            )
            assert result.output == f"{second}: on\n"
            refused = runner.invoke(app, ["lab", "drive-order", str(control), "power-cycle"])
            assert isinstance(refused.exception, ApplianceError)
            assert refused.exception.name == "Usage"
            still_open = attach(address, told["drives"][1]["nqn"])
        finally:
            served.terminate()
        assert served.communicate(timeout=60)[1] == ""
        assert served.returncode == 0
        for queue in (admin, io, *still_open):
            queue.close()
    assert not control.exists()
    with subprocess.Popen(
        [*PROGRAM, "drive", *arguments[:-3], "--json"], stdout=subprocess.PIPE, text=True
    ) as served:
        try:
            again = read_object(served.stdout)
            assert [drive["serial"] for drive in again["drives"]] == [first, second]
            _, io = attach((again["address"], again["port"]), again["drives"][0]["nqn"])
            assert io.read(0, 1).data == b"x" * 512
        finally:
            served.terminate()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--size", "0M"], "Usage"),
        (["--size", "16"], "Usage"),
        (["--size", "16K"], "Usage"),
        (["--block-size", "1000"], "Usage"),
        (["--kind", "enterprise"], "Usage"),
        (["--alignment", "0"], "Usage"),
        (["--lowest-aligned", "8"], "Usage"),
        (["--listen", "4420"], "Usage"),
        (["--listen", "127.0.0.1:"], "Usage"),
        (["--listen", "127.0.0.1:65536"], "Usage"),
        (["--listen", "192.0.2.1:4420"], "LabFailed"),  # no address of this machine
        (["--control", "/nowhere/control"], "LabFailed"),
    ],
)
def test_wrong_calls(tmp_path: Path, arguments: list[str], error: str) -> None:
    given = ["lab", "drive", "--image", str(tmp_path / "sed.img"), "--listen", "127.0.0.1:0", *arguments]
    result = runner.invoke(app, given)
    assert isinstance(result.exception, ApplianceError)
    assert result.exception.name == error
    if error == "Usage":
        assert list(tmp_path.iterdir()) == []


def test_one_image_is_one_drive(tmp_path: Path) -> None:
    image = str(tmp_path / "sed.img")
    result = runner.invoke(app, ["lab", "drive", "--image", image, "--image", image])
    assert isinstance(result.exception, ApplianceError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(["status"], "LabFailed"), (["slow", "0.5"], "Usage"), (["slow", "order=status"], "Usage")],
)
def test_wrong_orders(tmp_path: Path, arguments: list[str], error: str) -> None:
    result = runner.invoke(app, ["lab", "drive-order", str(tmp_path / "control"), *arguments])
    assert isinstance(result.exception, ApplianceError)
    assert result.exception.name == error
