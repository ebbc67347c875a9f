"""Virtual machines leave nothing behind either, and say why they did not boot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.lab.cgroup import cgroup_path
from appliance.lab.places import read_state
from tests.node.at_station import APPLIANCE
from tests.node.test_lab_leftovers import new_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.node.conftest import Operator
    from tests.node.test_lab_leftovers import Room

pytestmark = pytest.mark.vm


@pytest.fixture
def room(desk: Operator, tmp_path: Path) -> Iterator[Room]:
    """A room; the image is there, so that nothing below takes minutes."""
    del desk  # it has prepared the image
    with new_room(tmp_path / "labs", "hall") as made:
        yield made


# How far `lab up --machine` has come, where that is another way than a container's.
STAGES: dict[str, Callable[[Room], bool]] = {
    "bridges": lambda room: "alab-1d" in room.ip("link"),
    "disk": lambda room: (room.labs / "hall/nodes/hall-01/system.qcow2").exists(),
    "tap": lambda room: "alab-1-11d" in room.ip("link"),
    "drives": lambda room: (room.labs / "hall/nodes/hall-01/drives.sock").exists(),
    "plugged": lambda room: _frames(room, "management") > 24,
}


def _frames(room: Room, purpose: str) -> int:
    path = room.labs / f"hall/nodes/hall-01/capture/1-{purpose}.pcap"
    return path.stat().st_size if path.exists() else 0


def _up_until(room: Room, stage: str) -> subprocess.Popen[str]:
    process = room.start("up", "hall", "--machine", "--capture", "--drives", "1")
    while not STAGES[stage](room):
        assert process.poll() is None, f"`lab up` ended before the stage {stage}"
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("stage", STAGES)
def test_up_interrupted_takes_back_what_it_made(room: Room, stage: str) -> None:
    before = room.traces()
    process = _up_until(room, stage)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert room.left(before) == {}


def test_down_removes_what_a_killed_up_left(room: Room) -> None:
    before = room.traces()
    process = _up_until(room, "plugged")
    process.kill()
    process.communicate()
    assert set(room.left(before)) == {"links", "rules", "processes", "cgroups", "files"}
    assert len(room.left(before)["links"]) == 6, "three bridges and three cables"
    room.lab("down", "hall")
    assert room.left(before) == {}


@pytest.mark.parametrize("victim", ["keeper", "machine"])
def test_down_removes_what_killed_processes_left(room: Room, victim: str) -> None:
    before = room.traces()
    room.lab("up", "hall", "--machine", "--drives", "1")
    lab = read_state(room.labs / "hall")
    assert lab is not None
    for pid in (cgroup_path(lab.cgroup) / "hall-01" / victim / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    room.lab("status")
    room.lab("down", "--all")
    assert room.left(before) == {}


def test_a_machine_that_is_too_slow_is_given_up_with_its_console(room: Room) -> None:
    before = room.traces()
    output = room.lab("up", "hall", "--machine", "--from-scratch", "--timeout", "1", code=7)
    assert "hall-01 did not boot: it is not ready in time" in output
    assert room.left(before) == {}


def _refused(room: Room, cache: Path) -> dict[str, str]:
    """What `lab up --machine` with another cache says when it fails."""
    enter = ["nsenter", "--target", str(room.holder), "--mount", "--net", "--", APPLIANCE]
    done = subprocess.run(
        [*enter, "lab", "up", "hall", "--machine", "--json"],
        env={**room.environment, "APPLIANCE_LAB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    values: dict[str, str] = json.loads(done.stdout)
    assert (done.returncode, values["error"]) == (7, "LabFailed"), done.stderr
    return values


def test_a_machine_whose_state_is_damaged_shows_what_qemu_said(room: Room, tmp_path: Path) -> None:
    """All of the cache but the saved state, of which only the beginning is there."""
    root = Path(room.lab("prepare", "--machine").splitlines()[-1])
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    real = root.parents[1]
    for path in real.iterdir():
        if path != root.parent:
            (cache / path.name).mkdir(parents=True)
            for part in path.iterdir():
                (cache / path.name / part.name).symlink_to(part)
    copy = cache / root.relative_to(real)
    copy.mkdir(parents=True)
    for path in root.iterdir():
        if path.name != "booted.state":
            (copy / path.name).symlink_to(path.resolve())
    with (root / "booted.state").open("rb") as file:
        (copy / "booted.state").write_bytes(file.read(1 << 20))
    before = room.traces()
    values = _refused(room, cache)
    assert "it ended with exit code" in values["message"]
    assert "load of migration failed" in values["found"]
    assert room.left(before) == {}


def test_without_an_archive_and_without_a_cache_it_says_what_to_do(room: Room, tmp_path: Path) -> None:
    """The room's network leads nowhere, and QEMU has never been unpacked."""
    cache = tmp_path.parent / f"{tmp_path.name}-empty"
    before = room.traces()
    values = _refused(room, cache)
    assert "appliance lab prepare --machine" in values["hint"]
    assert list(cache.iterdir()) == []
    assert room.left(before) == {}
