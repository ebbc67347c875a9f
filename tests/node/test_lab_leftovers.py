"""`lab down` leaves nothing behind, however the lab came to be in the state it is in.

Everything happens in a room of its own: a network namespace, and a mount namespace whose mounts
propagate as they do on a machine run by systemd.  So mounts and interfaces before and after can be
compared as a whole, whatever else the machine is doing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.lab.cgroup import cgroup_path
from appliance.lab.places import read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.node

APPLIANCE = str(Path(sys.executable).with_name("appliance"))


@dataclass(frozen=True)
class Room:
    """Namespaces to work in, held open by one process, and the folder labs are kept in.

    Its labs are called ``name`` and something: control groups are the whole machine's, where another test
    run may have a room too.
    """

    holder: int
    labs: Path
    name: str = "room"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "APPLIANCE_LAB_FOLDER": str(self.labs)}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        enter = ["nsenter", "--target", str(self.holder), "--mount", "--net", "--", APPLIANCE, "lab"]
        return subprocess.Popen(
            [*enter, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lab(self, *arguments: str, code: int = 0) -> str:
        """Run `appliance lab …` to its end and expect an exit code."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        return output

    def ip(self, *arguments: str) -> str:
        """Run `ip` in the room."""
        enter = ["nsenter", "--target", str(self.holder), "--net", "--"]
        return subprocess.check_output([*enter, "ip", *arguments], text=True)

    def traces(self) -> dict[str, set[str]]:
        """All there is now that a lab of this room's folder could have left."""
        mounts = Path(f"/proc/{self.holder}/mounts").read_text().splitlines()
        return {
            "mounts": set(mounts),
            "links": {link["ifname"] for link in json.loads(self.ip("-json", "link"))},
            "rules": {*self.ip("-4", "rule").splitlines(), *self.ip("-6", "rule").splitlines()},
            "processes": set(_processes(str(self.labs), self.name)),
            "cgroups": {path.name for path in cgroup_path("").glob(f"appliance-lab-{self.name}*")},
            "files": {str(path) for path in self.labs.parent.rglob("*")},
        }

    def left(self, before: dict[str, set[str]]) -> dict[str, set[str]]:
        """What there is more than before; empty when nothing was left.

        Less than before is possible: a mount goes when another process removes the folder it is on.
        """
        more = {kind: now - before[kind] for kind, now in self.traces().items()}
        return {kind: found for kind, found in more.items() if found}


def _processes(labs: str, name: str) -> Iterator[str]:
    """Processes in a control group of a lab named so, or with the labs' folder in their environment."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if "\nState:\tZ" in (entry / "status").read_text():
                continue  # ended; PID 1 of this machine has yet to hear of it
            ours = f"/appliance-lab-{name}" in (entry / "cgroup").read_text()
            ours = ours or f"APPLIANCE_LAB_FOLDER={labs}\0".encode() in (entry / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is not for us to look at
            continue
        if ours:
            yield entry.name


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    subprocess.run([APPLIANCE, "lab", "prepare"], check=True, stdout=subprocess.DEVNULL)
    with new_room(tmp_path / "labs", "room") as room:
        yield room


@contextlib.contextmanager
def new_room(labs: Path, name: str) -> Iterator[Room]:
    # First private, to see nothing of what others mount; then shared, as systemd makes it.
    hold = "mount --make-rshared / && echo in && exec sleep 600"
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", hold],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "in\n"
    room = Room(holder.pid, labs, name)
    try:
        yield room
    finally:
        room.lab("down", "--all")
        holder.kill()
        holder.communicate()


def _state(room: Room, path: str = "state.json") -> bool:
    return (room.labs / "room" / path).exists()


# How far `lab up` has come, from the first thing it makes to the last.
STAGES: dict[str, Callable[[Room], bool]] = {
    "folder": lambda room: (room.labs / "room").is_dir(),
    "state": _state,
    "bridge": lambda room: "alab-" in room.ip("link"),
    "rules": lambda room: "alab-" in room.ip("-4", "rule"),
    "keys": lambda room: _state(room, "inventory/keys/operator"),
    "keeper": lambda _: any(cgroup_path("").glob("appliance-lab-room-*")),
    "console": lambda room: _state(room, "nodes/room-01/machine.json"),
    "cable": lambda room: "alab-1-11" in room.ip("link"),
}


def _up_until(room: Room, stage: str) -> subprocess.Popen[str]:
    process = room.start("up", "room")
    while not STAGES[stage](room):
        assert process.poll() is None, f"`lab up` ended before the stage {stage}"
        time.sleep(0.02)
    return process


def test_up_makes_what_the_comparison_looks_at(room: Room) -> None:
    """The comparison would be worth nothing if it could not see a running lab."""
    before = room.traces()
    room.lab("up", "room")
    left = room.left(before)
    assert set(left) == {"links", "rules", "processes", "cgroups", "files"}
    assert len(left["links"]) == 2
    assert len(left["processes"]) > 5


def test_down_leaves_nothing_and_may_be_repeated(room: Room) -> None:
    before = room.traces()
    room.lab("up", "room", "--nodes", "2")
    assert room.lab("down", "room") == "removed: room\n"
    assert room.left(before) == {}
    assert room.lab("down", "room") == "nothing to remove\n"
    assert room.left(before) == {}


def test_down_all_takes_every_lab(room: Room) -> None:
    before = room.traces()
    room.lab("up", "room")
    room.lab("up", "room2")
    assert room.lab("down", "--all") == "removed: room, room2\n"
    assert room.left(before) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_up_interrupted_takes_back_what_it_made(room: Room, stage: str) -> None:
    before = room.traces()
    process = _up_until(room, stage)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 130, output
    assert room.left(before) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_up_ended_politely_takes_back_what_it_made(room: Room, number: signal.Signals) -> None:
    before = room.traces()
    process = _up_until(room, "keeper")
    process.send_signal(number)
    process.communicate(timeout=240)
    assert process.returncode != 0
    assert room.left(before) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_down_removes_what_a_killed_up_left(room: Room, stage: str) -> None:
    before = room.traces()
    process = _up_until(room, stage)
    process.kill()
    process.wait()
    process.communicate()
    room.lab("down", "room")
    assert room.left(before) == {}
    room.lab("up", "room")


@pytest.mark.parametrize("victim", ["keeper", "leader", "nspawn", "everything"])
def test_down_removes_what_killed_processes_left(room: Room, victim: str) -> None:
    before = room.traces()
    room.lab("up", "room")
    lab = read_state(room.labs / "room")
    assert lab is not None
    group = cgroup_path(lab.cgroup) / "room-01"
    for pid in _victims(group, victim):
        os.kill(pid, signal.SIGKILL)
    room.lab("status")
    room.lab("down", "room")
    assert room.left(before) == {}


def _victims(group: Path, victim: str) -> list[int]:
    files = {
        "keeper": [group / "keeper/cgroup.procs"],
        "leader": [group / "machine/payload/init.scope/cgroup.procs"],
        "nspawn": [group / "machine/supervisor/cgroup.procs"],
        "everything": list(group.rglob("cgroup.procs")),
    }
    victims = [int(line) for path in files[victim] for line in path.read_text().split()]
    assert victims
    return victims


def test_down_removes_a_lab_whose_bridge_is_gone_and_whose_nodes_are_off(room: Room) -> None:
    before = room.traces()
    room.lab("up", "room")
    links = sorted(room.left(before)["links"])
    room.lab("shell", "room", "--", "systemctl", "poweroff")
    deadline = time.monotonic() + 240
    while " off " not in room.lab("status"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    room.ip("link", "delete", links[0])
    room.lab("down", "room")
    assert room.left(before) == {}


def test_down_leaves_a_stranger_of_the_same_name_alone(room: Room) -> None:
    room.lab("up", "room")
    lab = read_state(room.labs / "room")
    assert lab is not None
    room.ip("link", "set", lab.bridge, "address", "02:ff:ff:ff:ff:ff")
    before = room.traces()
    room.lab("down", "room")
    after = room.traces()
    assert lab.bridge in after["links"]
    assert after["rules"] == before["rules"]


def test_down_removes_a_lab_whose_operator_side_is_gone(room: Room) -> None:
    before = room.traces()
    netns = f"appliance-gone-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    up = ["ip", "netns", "exec", netns, APPLIANCE, "lab", "up", "room"]
    subprocess.run(up, env=room.environment, check=True, capture_output=True)
    lab = read_state(room.labs / "room")
    assert lab is not None
    (cgroup_path(lab.cgroup) / "cgroup.kill").write_text("1")
    subprocess.run(["ip", "netns", "delete", netns], check=True)
    room.lab("down", "room")
    assert room.left(before) == {}


def test_a_node_that_does_not_boot_shows_its_console_and_leaves_nothing(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from appliance.lab.recipe import Recipe

    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    (cache / Recipe().digest / "root/usr").mkdir(parents=True)
    monkeypatch.setenv("APPLIANCE_LAB_CACHE", str(cache))
    before = room.traces()
    output = room.lab("up", "room", code=7)
    assert "room-01 did not boot: it ended with exit code 1" in output
    # What systemd-nspawn itself said of a root without an operating system in it.
    assert str(room.labs / "room/nodes/room-01/merged") in output
    assert room.left(before) == {}


def test_a_node_that_is_too_slow_is_given_up(room: Room) -> None:
    """PID 1 of the node is stopped as soon as there is one, so it never gets ready."""
    before = room.traces()
    process = room.start("up", "room", "--timeout", "15")
    while not (leader := _leader(room)):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(leader, signal.SIGSTOP)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 7, output
    assert "room-01 did not boot: it is not ready in time" in output
    assert room.left(before) == {}


def _leader(room: Room) -> int | None:
    try:
        machine = json.loads((room.labs / "room/nodes/room-01/machine.json").read_text())
    except FileNotFoundError:
        return None
    leader = machine["leader"]
    return int(leader) if leader else None


def test_a_lab_that_exists_is_left_as_it_is(room: Room) -> None:
    room.lab("up", "room")
    assert "the lab room exists already" in room.lab("up", "room", code=7)
    assert room.lab("shell", "room", "--", "hostname") == "room-01\n"


def test_labs_brought_up_at_once_do_not_collide(room: Room) -> None:
    processes = [room.start("up", name) for name in ("room", "room2", "room3")]
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    labs = json.loads(room.lab("status", "--json"))["labs"]
    assert len({lab["operator"][0] for lab in labs}) == 3


def test_without_a_tool_nothing_is_made(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    before = room.traces()
    monkeypatch.setenv("PATH", "/nonexistent")
    process = subprocess.run(
        [APPLIANCE, "lab", "up", "room", "--json"],
        env=room.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    monkeypatch.undo()
    values = json.loads(process.stdout)
    assert (process.returncode, values["error"], values["exit_code"]) == (5, "ToolMissing", 5)
    assert "systemd-container" in values["hint"]
    assert room.left(before) == {}


def test_who_is_not_root_is_told_so(room: Room) -> None:
    before = room.traces()
    # Who clones into root's home has the program where nobody else may read.
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    reading = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    process = subprocess.run(
        [*nobody, *reading, APPLIANCE, "lab", "up", "room"],
        env=room.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (process.returncode, "practice nodes need root" in process.stderr) == (5, True), process.stderr
    assert room.left(before) == {}
