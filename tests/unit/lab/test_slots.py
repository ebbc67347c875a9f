"""What a machine with simulated drives has on its disk, and what its label says."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import LabFailed
from appliance.lab.bay import Bay, make_drives
from appliance.lab.plan import Node
from appliance.lab.slots import SERVICE, slots_files, slots_mac

if TYPE_CHECKING:
    from pathlib import Path

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
