"""Making the image is whole or nothing, and a full disk is said instead of guessed at."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.lab.machine_recipe import machine_recipe, qemu_recipe
from appliance.lab.places import Places
from tests.node.at_station import APPLIANCE
from tests.node.conftest import lab_named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.node.conftest import Operator

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("desk")]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with the two root file systems and no image."""
    folder = tmp_path / "cache"
    for recipe in (qemu_recipe(), machine_recipe()):
        (folder / recipe.digest).mkdir(parents=True)
        for part in (Places.from_environment().cache / recipe.digest).iterdir():
            (folder / recipe.digest / part.name).symlink_to(part)
    return folder


def _booting(cache: Path) -> subprocess.Popen[str]:
    """`lab prepare --machine`, as far as the machine that is booted for the image."""
    process = subprocess.Popen(
        [APPLIANCE, "lab", "prepare", "--machine"],
        env={**os.environ, "APPLIANCE_LAB_CACHE": str(cache)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not any("qemu-system" in command for command in _commands(cache)):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)
    return process


def _commands(cache: Path) -> Iterator[str]:
    """Command lines of the processes that work in the cache."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):  # it ended meanwhile
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if f"{cache}/" in command:
                    yield command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_machine_and_no_part(cache: Path, number: signal.Signals) -> None:
    before = set(cache.iterdir())
    process = _booting(cache)
    process.send_signal(number)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert list(_commands(cache)) == []
    assert set(cache.iterdir()) == before


def test_killed_it_takes_its_machine_along_and_down_clears_up(cache: Path) -> None:
    before = set(cache.iterdir())
    process = _booting(cache)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 480
    while list(_commands(cache)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    # With a folder for labs of its own: others' are up at the same time.
    folders = {"APPLIANCE_LAB_CACHE": str(cache), "APPLIANCE_LAB_FOLDER": str(cache / "labs")}
    environment = {**os.environ, **folders}
    subprocess.run(
        [APPLIANCE, "lab", "down", "--all"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    assert set(cache.iterdir()) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder for labs on a disk with little more room than a machine is promised."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2050M", "small", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_without_room_for_the_disks_nothing_is_begun(desk: Operator, small_disk: Path) -> None:
    side = replace(desk, environment={**desk.environment, "APPLIANCE_LAB_FOLDER": str(small_disk / "labs")})
    done = side.run(["appliance", "lab", "up", "--machine", "--nodes", "2", "--json"], check=False)
    values = json.loads(done.stdout)
    assert (done.returncode, values["error"]) == (5, "SpaceExhausted"), done.stderr
    assert "APPLIANCE_LAB_FOLDER" in values["hint"]
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_cannot_grow_stops_the_machine_and_its_console_says_so(
    desk: Operator, small_disk: Path
) -> None:
    side = replace(desk, environment={**desk.environment, "APPLIANCE_LAB_FOLDER": str(small_disk / "labs")})
    name = f"small{os.getpid()}"
    side.run(["appliance", "lab", "up", name, "--machine"], timeout=600)
    try:
        filler = small_disk / "filler"
        size = shutil.disk_usage(small_disk).free - 20 * 2**20
        subprocess.run(["fallocate", "--length", str(size), filler], check=True)
        node = lab_named(side, name).node
        write = "dd if=/dev/urandom of=/root/big bs=1M count=100 conv=fsync"
        shell = ["appliance", "lab", "shell", name, "--", "sh", "-c", write]
        writer = side.start(shell, start_new_session=True)
        console = ["appliance", "lab", "console", name]
        deadline = time.monotonic() + 900
        while "stands still" not in (seen := side.run(console).stdout):
            assert time.monotonic() < deadline, seen
            time.sleep(2)
        assert "No space left on device" in seen
        os.killpg(writer.pid, signal.SIGKILL)  # ssh too, which waits for a machine that stands still
        writer.communicate()
        filler.unlink()
        for verb in ("cut", "on"):
            side.run(["appliance", "lab", "power", verb, name], timeout=600)
        assert node.run("hostname").stdout == f"{node.name}\n"
    finally:
        side.run(["appliance", "lab", "down", name])
