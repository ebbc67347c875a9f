"""What a machine with simulated drives has on its disk, and what its label says."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import LabFailed
from appliance.lab.bay import Bay, make_drives, warm_reset
from appliance.lab.drive.control import serve_control
from appliance.lab.drive.simulated import SimulatedDrive
from appliance.lab.plan import Node
from appliance.lab.slots import SERVICE, slots_files, slots_mac
from appliance.lab.unix_socket import short_path
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import ADMIN_SP, Host

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.lab.drive.profile import Profile

NODE = Node("ward-01", 7, 11, machine=True, drives=2)


def test_a_machines_drives_are_as_new_and_no_two_alike(tmp_path: Path) -> None:
    made = make_drives(tmp_path, NODE)
    assert len({each.serial for each in made}) == len({each.psid for each in made}) == 2
    assert Bay(tmp_path).profiles(NODE) == made
    assert [path.name for path in Bay(tmp_path).images(NODE)] == ["drive1.img", "drive2.img"]
    assert make_drives(tmp_path, replace(NODE, drives=0)) == []


def test_a_drive_whose_state_is_damaged_is_named(tmp_path: Path) -> None:
    make_drives(tmp_path, NODE)
    (tmp_path / "drive2.img.state").write_text(json.dumps({"format": 0}))
    with pytest.raises(LabFailed, match=r"drive2\.img\.state"):
        Bay(tmp_path).profiles(NODE)


def test_the_guest_connects_to_every_drive_before_it_looks_for_volumes(tmp_path: Path) -> None:
    files = slots_files(NODE, ["nqn.one", "nqn.two"])
    program, unit = files["usr/local/sbin/practice-slots"], files[f"etc/systemd/system/{SERVICE}"]
    assert 'names="nqn.one nqn.two"' in program
    assert "Before=cryptsetup-pre.target local-fs-pre.target" in unit
    assert slots_mac(NODE) in program
    script = tmp_path / "slots"
    script.write_text(program)
    subprocess.run(["shellcheck", "--shell=sh", script], check=True)


def test_no_two_machines_have_the_same_card() -> None:
    assert len({slots_mac(replace(NODE, host=host, segment=at)) for host in (11, 12) for at in (7, 8)}) == 4


def test_a_reset_of_the_machine_reaches_all_of_its_drives_and_unlocks_and_locks_nothing(
    tmp_path: Path,
) -> None:
    make_drives(tmp_path, NODE)
    drives = [SimulatedDrive(image, never) for image in Bay(tmp_path).images(NODE)]
    for drive in drives:
        host = Host(drive.security)
        host.take_ownership(PIN)
        host.activate(PIN)
        host.set_up_range(PIN, 1, 80, 80)
        host.start(ADMIN_SP)

    async def run() -> None:
        server = await serve_control(Bay(tmp_path).control, drives)
        async with server:
            await asyncio.to_thread(warm_reset, tmp_path, NODE)

    asyncio.run(run())
    for drive in drives:
        assert drive.tper.session is None, "that of a host that is gone"
        assert drive.media.read(80, 1) == bytes(512)
        drive.close()


def test_a_socket_is_reached_however_long_the_path_of_its_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as connection:
        with short_path(folder / "a") as path:
            listening.bind(path)
        listening.listen(1)
        with short_path(folder / "a") as path:
            connection.connect(path)


def never() -> Profile:
    raise AssertionError("the drive was there already")
