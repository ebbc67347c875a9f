"""What a node mounts of open volumes, and which units it starts then; systemd is played by a program."""

from __future__ import annotations

import json
import os
import subprocess
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.disks import Disk
from appliance.definition.inventory import NodeEntry
from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.volumes import Mounted, mount_places

if TYPE_CHECKING:
    from pathlib import Path

DISK = Disk("data", "S1", None, "ssh", "ext4", ("/srv/held", "/proc"))
#: Answers from a file, by what it is asked; notes what it is told to start.
SYSTEMCTL = """#!/usr/bin/python3
import json, os, sys
units = json.load(open(os.environ["UNITS"]))
words = [word for word in sys.argv[1:] if not word.startswith("--")]
verb, names = words[0], words[1:]
if verb == "show":
    wanted = next(w for w in sys.argv if w.startswith("--property"))
    name = wanted.partition("=")[2] or words[1]
    names = sys.argv[sys.argv.index("--", 2) + 1:]
    for unit in names:
        found = units.get(unit, {"LoadState": "not-found"})
        if "--value" in sys.argv:
            print(found.get(words[1] if "=" not in wanted else name, ""))
        else:
            print("".join(f"{key}={found.get(key, '')}\\n" for key in name.split(",")))
else:
    open(os.environ["NOTES"], "a").write(f"{verb} {' '.join(names)}\\n")
    if verb == "start" and units.get(names[-1], {}).get("fails"):
        sys.exit("Dependency failed for it.")
"""
MOUNT = {"LoadState": "loaded", "RequiredBy": "srv-held.mount waits.service idle.service runs.service"}
UNITS: dict[str, dict[str, Any]] = {
    "mnt-appliance-data.mount": MOUNT,
    "srv-held.mount": {"LoadState": "loaded", "RequiredBy": "waits.service t.timer"},
    "proc.mount": {"LoadState": "loaded", "RequiredBy": ""},
    "waits.service": {"UnitFileState": "enabled", "ActiveState": "inactive"},
    "t.timer": {"UnitFileState": "enabled", "ActiveState": "failed"},
    "idle.service": {"UnitFileState": "static", "ActiveState": "inactive"},
    "runs.service": {"UnitFileState": "enabled", "ActiveState": "active"},
}


class Here:
    """This machine as a node, whose systemd is ours."""

    node = NodeEntry("gpu-01", "ssh", IPv4Address("10.20.0.11"), 22, ())

    def __init__(self, folder: Path) -> None:
        self.folder, self.units, self.status = folder, dict(UNITS), None
        (folder / "bin").mkdir()
        (folder / "bin/systemctl").write_text(SYSTEMCTL)
        (folder / "bin/systemctl").chmod(0o755)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        assert timeout is None
        if self.status is not None:
            return subprocess.CompletedProcess([], self.status, b"", b"gone")
        (self.folder / "units.json").write_text(json.dumps(self.units))
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "UNITS": str(self.folder / "units.json"),
            "NOTES": str(self.folder / "notes"),
        }
        return subprocess.run(
            ["sh", "-c", command], input=stdin, capture_output=True, env=environment, check=False
        )

    def started(self) -> list[str]:
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        return [line.removeprefix("start ") for line in lines if line.startswith("start ")]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def mounted(here: Here) -> Mounted:
    return mount_places(here, [DISK])  # type: ignore[arg-type] # no more of a connection is needed


def test_volume_first_then_places_then_what_is_enabled_and_not_at_work(here: Here) -> None:
    found = mounted(here)
    assert found == Mounted(("/mnt/appliance/data", "/srv/held"), (), ("t.timer", "waits.service"), {}), (
        "/proc is mounted here already"
    )
    assert here.started() == ["mnt-appliance-data.mount", "srv-held.mount", "t.timer", "waits.service"]


def test_a_place_that_no_table_knows_is_told_and_not_tried(here: Here) -> None:
    del here.units["srv-held.mount"]
    found = mounted(here)
    assert found.unknown == ("/srv/held",)
    assert "srv-held.mount" not in here.started()


def test_where_a_mount_fails_nothing_is_started_upon_it(here: Here) -> None:
    here.units["srv-held.mount"] = {**here.units["srv-held.mount"], "fails": True}
    found = mounted(here)
    assert found.failed == {"/srv/held": "Dependency failed for it."}
    assert found.started == ()


def test_a_unit_that_does_not_start_stops_no_other(here: Here) -> None:
    here.units["t.timer"] = {**here.units["t.timer"], "fails": True}
    found = mounted(here)
    assert (list(found.failed), found.started) == (["t.timer"], ("waits.service",))


@pytest.mark.parametrize(("status", "error"), [(255, NodeUnreachable), (1, ApplyFailed)])
def test_a_node_that_does_not_answer(here: Here, status: int, error: type[Exception]) -> None:
    here.status = status  # type: ignore[assignment] # a test's own
    with pytest.raises(error):
        mounted(here)
