"""What a machine's keeper does when its machine is reset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import LabFailed
from appliance.lab import bay, keeping
from appliance.lab.keeping import read_machine
from appliance.lab.machine_keeper import MachineKeeper
from appliance.lab.plan import Lab

LAB = Lab("ward", 7, 1, "0123456789", (4, 4026531840), Path("/cache/abc/machine"), machine=True, drives=1)


@pytest.mark.parametrize("there", [True, False], ids=["drives", "drives-that-were-killed"])
def test_a_reset_is_one_boot_and_resets_the_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """The firmware resets a second time, right after the first."""
    told: list[tuple[Any, ...]] = []

    def warm_reset(*given: Any) -> None:
        told.append(given)
        if not there:
            raise LabFailed("no drive takes orders there")

    monkeypatch.setattr(keeping.cgroup, "cgroup_path", lambda _: tmp_path)
    monkeypatch.setattr(bay, "warm_reset", warm_reset)
    talk: Any = None  # nothing is asked of the machine
    report = os.open("/dev/null", os.O_WRONLY)
    keeper = MachineKeeper(LAB, LAB.nodes[0], tmp_path, report)
    for seconds in (100, 101, 200):
        timestamp = {"seconds": seconds, "microseconds": 0}
        keeper._note(talk, {"event": "RESET", "timestamp": timestamp})
    os.close(report)
    assert told == [(tmp_path, LAB.nodes[0])] * 2
    assert read_machine(tmp_path).boots == 2
