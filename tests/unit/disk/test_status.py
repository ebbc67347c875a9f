"""`appliance disk status`: the table, the JSON, the choice of drives, and nodes of a site."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ansible.errors import AnsibleFilterError
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.disk import reading
from appliance.disk.present import node_text, node_values
from appliance.disk.selection import select_drive, select_drives
from appliance.disk.state import read_state
from appliance.errors import DriveUnsuitable, NodeUnreachable, PreflightFailed, Usage
from appliance.node import drives as node_drives
from tests.unit.disk.drives import entry, level_0, machine, simulated, top
from tests.unit.disk.test_state import BOTH, owned

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNER = CliRunner()
RACK = machine(
    entry(answer=level_0(simulated())),
    entry("nvme1n1", level_0(simulated(kind="pyrite")), serial="SIM2", model="Some drive"),
    entry("nvme2n1", owned(), serial="SIM3", luks={"status": 0, "json": BOTH, "uuid": ""}),
    entry("sda", None, serial="", namespace="", transport="sata"),
    tree=[
        *(top(), top("nvme1n1"), top("nvme2n1", fstype="crypto_LUKS")),
        top("sda", mountpoints=["/"], fstype="ext4"),
    ],
)


@pytest.fixture
def rack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "read_here", lambda: RACK)


def test_the_table() -> None:
    host, drives = read_state(RACK)
    lines = node_text(host, drives).splitlines()
    assert lines[0].split() == [
        "DRIVE",
        "MODEL",
        "SERIAL",
        "SIZE",
        "KIND",
        "OWNER",
        "ENCRYPTED",
        "BY",
        "USE",
        "VERDICT",
    ]
    rows = {line.split()[0]: line for line in lines[1:] if line.startswith("/")}
    assert " ".join(rows["/dev/nvme0n1"].split()) == (
        "/dev/nvme0n1 Simulated Opal drive SIM1.0 SIM1 16.8 MB opal-2 pcie nobody - - ready"
    )
    assert rows["/dev/nvme1n1"].endswith("refused")
    assert "opal and dm-crypt" in rows["/dev/nvme2n1"]
    assert rows["/dev/nvme2n1"].endswith("enrolled")
    assert rows["/dev/sda"].split()[-4:] == ["-", "-", "root", "refused"]
    assert "  against: pyrite-2: it is a Pyrite drive: it locks, and does not encrypt; it can have " in (
        "\n".join(lines)
    )
    assert [line for line in lines if "  note:    firmware-unknown: " in line]
    features = "opal-2, locking off, encrypts, blocks of 512, ranges aligned to 8 blocks"
    assert f"  opal:    {features}, 4 administrators, 9 users" in lines


def test_a_machine_without_drives_says_so() -> None:
    host, drives = read_state(machine())
    assert node_text(host, drives) == "no drive that is a device of its own"
    assert node_values(host, drives)["drives"] == []


def test_values_are_json_and_their_names_stay() -> None:
    host, drives = read_state(RACK)
    values = json.loads(json.dumps(node_values(host, drives)))
    assert set(values) == {"kernel", "cryptsetup", "root", "drives"}
    first = values["drives"][0]
    assert set(first) == {
        *("path", "model", "serial", "firmware", "transport", "namespace", "size", "block_size"),
        *("removable", "writable", "tcg", "trouble", "owner", "taken_by_linux", "opal", "use", "luks"),
        *("firmware_known", "verdict", "against", "notes"),
    }
    assert set(first["opal"]) == {
        *("ssc", "sscs", "locking_supported", "locking_enabled", "locked", "encrypts", "admins", "users"),
        *("shadow_supported", "shadow_enabled", "shadow_done", "block_size", "granularity"),
        *("lowest_aligned", "sid_changed", "sid_blocked", "crossing_fails", "first_comid", "comids"),
        *("data_stores", "data_store_size", "ranges_per_namespace", "single_user", "others"),
    }
    assert (first["opal"]["ssc"], first["verdict"]) == ("opal-2", "ready")
    assert values["drives"][3]["opal"] is None
    assert [reason["name"] for reason in values["drives"][3]["against"]] == ["root", "not-empty", "no-opal"]


@pytest.mark.usefixtures("rack")
def test_the_command_prints_the_table_or_one_json_object() -> None:
    text = RUNNER.invoke(app, ["disk", "status"])
    assert text.exit_code == 0
    assert text.stdout.startswith("DRIVE ")
    values = json.loads(RUNNER.invoke(app, ["disk", "status", "SIM2", "/dev/sda", "--json"]).stdout)
    assert [drive["path"] for drive in values["drives"]] == ["/dev/nvme1n1", "/dev/sda"]


@pytest.mark.usefixtures("rack")
def test_a_drive_that_is_not_there() -> None:
    _, drives = read_state(RACK)
    with pytest.raises(DriveUnsuitable) as raised:
        select_drives(drives, ["nvme0n1", "/dev/nvme9n1"], node="gpu-01")
    assert raised.value.message == "gpu-01 has no drive /dev/nvme9n1"
    assert "/dev/nvme2n1" in str(raised.value.wanted)
    assert raised.value.exit_code == 5


def test_a_serial_number_of_two_namespaces_is_no_drives_name() -> None:
    new = level_0(simulated())
    _, drives = read_state(machine(entry(answer=new), entry("nvme0n2", new, namespace="2")))
    assert select_drive(drives, "nvme0n2").path == "/dev/nvme0n2"
    with pytest.raises(Usage, match="the name of several") as raised:
        select_drive(drives, "SIM1")
    assert raised.value.found == "/dev/nvme0n1, /dev/nvme0n2"


def test_no_drive_has_an_empty_name() -> None:
    """A drive without a serial number is not meant by an empty one."""
    _, drives = read_state(RACK)
    with pytest.raises(DriveUnsuitable):
        select_drives(drives, [""])


def test_the_filter_says_what_the_command_says(role_module: Callable[[str], Any]) -> None:
    filters = role_module("disk_encryption/filter_plugins/appliance_drives.py").FilterModule().filters()
    host, drives = read_state(RACK)
    assert filters["appliance_drives"](RACK) == node_values(host, drives)
    with pytest.raises(AnsibleFilterError, match="cannot be made sense of: format 7"):
        filters["appliance_drives"]({"format": 7})


class Line:
    """A connection whose far side does as told."""

    def __init__(self, name: str, done: Any) -> None:
        self.node = SimpleNamespace(name=name, connection="ssh", address="10.0.0.1", port=22)
        self.done, self.closed, self.given = done, False, b""

    def run(self, command: str, *, stdin: bytes, timeout: float) -> Any:
        self.given = stdin
        if isinstance(self.done, Exception):
            raise self.done
        status, out, err = self.done
        return subprocess.CompletedProcess([command], status, out, err)

    def close(self) -> None:
        self.closed = True


def test_nodes_are_asked_and_each_says_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {
        "one": Line("one", (0, b"a banner\n" + json.dumps(RACK).encode() + b"\n", b"")),
        "two": Line("two", (255, b"", b"no route to host")),
        "three": Line("three", (127, b"", b"")),
        "four": Line("four", (1, b"", b"Traceback")),
        "five": Line("five", subprocess.TimeoutExpired("x", 600)),
    }
    monkeypatch.setattr(node_drives, "open_connections", lambda *_: lines)
    site: Any = None
    found = node_drives.ask_drives(site, (), b"the program")
    assert found["one"] == RACK
    assert {name: type(one) for name, one in found.items() if name != "one"} == {
        "two": NodeUnreachable,
        "three": PreflightFailed,
        "four": PreflightFailed,
        "five": NodeUnreachable,
    }
    assert [getattr(found[name], "found", None) for name in ("two", "three", "four", "five")] == [
        *("no route to host", "no python3", "Traceback", "no answer within 600 s"),
    ]
    assert all(line.closed and line.given == b"the program" for line in lines.values())


def test_the_command_tells_of_nodes_and_ends_with_the_gravest(monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.cli import disk

    answers = {"one": RACK, "two": NodeUnreachable("two does not answer")}
    monkeypatch.setattr(disk, "_nodes", lambda *_: answers)
    done = RUNNER.invoke(app, ["disk", "status", "-i", "site", "--json"])
    assert done.exit_code == 6
    values = json.loads(done.stdout)["nodes"]
    assert values["two"]["error"] == "NodeUnreachable"
    assert len(values["one"]["drives"]) == 4
    assert "error: two does not answer" in done.stderr
