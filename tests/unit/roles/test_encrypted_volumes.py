"""The module `encrypted_volumes`: what it does to a machine in a folder, and what it refuses to do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

UUID = "6ce4ef4c-2b2e-4a9b-8f1c-2f4a7d1c0b11"
COMMAND = "appliance disk unlock --node gpu-01"


@dataclass
class Machine:
    """A machine below a folder: volumes that are open, what is on them, what is mounted; its programs."""

    module: Any
    root: Path
    content: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, tuple[str, str]] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    done: list[tuple[str, ...]] = field(default_factory=list)
    fails: str = ""

    def open(self, name: str, uuid: str = UUID, number: int = 0) -> None:
        (self.root / f"mapper/dm-{number}").touch()
        (self.root / f"mapper/{name}").symlink_to(f"dm-{number}")
        folder = self.root / f"block/dm-{number}/dm"
        folder.mkdir(parents=True)
        (folder / "uuid").write_text(f"CRYPT-LUKS2-{uuid.replace('-', '')}-{name}\n")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        self.done.append(command)
        out, status = "", 0
        if command[0] == "wipefs":
            found = self.content.get(command[-1].rpartition("/")[2], "")
            out = json.dumps({"signatures": [{"type": found}]}) if found else ""
        elif command[0] == "sh":
            status = command[2].split()[-1] in self.missing
        elif command[0].startswith("mkfs."):
            self.content[command[-1].rpartition("/")[2]] = command[0][5:]
        elif command[:2] == ("systemctl", "start"):
            self.mount(command[2])
        if self.fails and self.fails in command:
            status = 1
        return subprocess.CompletedProcess(command, int(status), out, "it failed")

    def mount(self, unit: str) -> None:
        """As systemd does it by fstab."""
        for line in self.fstab.splitlines():
            source, place, *_ = line.split()
            if not line.startswith("#") and self.module.unit_of(place) == unit:
                name = (
                    source.removeprefix("/dev/mapper/").removeprefix(f"{self.root}/volumes/").split("/")[0]
                )
                self.mounts[place] = (f"/dev/mapper/{name}", "/" if source.startswith("/dev") else place)

    @property
    def fstab(self) -> str:
        return (self.root / "fstab").read_text()

    def place(self, name: str) -> str:
        return str(self.root / "places" / name)

    def volume(self, **changed: Any) -> dict[str, Any]:
        values = {"name": "data", "uuid": UUID, "unlock": "ssh", "filesystem": "ext4"}
        return {**values, "mounts": [self.place("a"), self.place("b")], **changed}

    def bring(self, *volumes: dict[str, Any], check: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self.module.bring_about(list(volumes), COMMAND, check=check)
        return found


@pytest.fixture
def machine(role_module: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    module = role_module("disk_encryption/library/encrypted_volumes.py")
    made = Machine(module, tmp_path)
    for name in ("mapper", "block", "places", "volumes"):
        (tmp_path / name).mkdir()
    (tmp_path / "fstab").write_text("UUID=1 / ext4 defaults 0 1\n")
    (tmp_path / "attach").touch()
    monkeypatch.setattr(module, "MAPPER", tmp_path / "mapper")
    monkeypatch.setattr(module, "SYS_BLOCK", tmp_path / "block")
    monkeypatch.setattr(module, "CRYPTTAB", tmp_path / "crypttab")
    monkeypatch.setattr(module, "FSTAB", tmp_path / "fstab")
    monkeypatch.setattr(module, "ATTACH", (str(tmp_path / "attach"), "systemd-cryptsetup"))
    monkeypatch.setattr(module, "run", made.run)
    monkeypatch.setattr(module, "read_mounts", lambda: made.mounts)
    monkeypatch.setattr(module, "base", lambda volume: str(tmp_path / "volumes" / volume["name"]))
    tables = module.crypttab.__globals__
    monkeypatch.setitem(tables, "VOLUMES", str(tmp_path / "volumes"))
    monkeypatch.setitem(tables, "UNITS", str(tmp_path / "units"))
    monkeypatch.setitem(module.hold_empty.__globals__, "SET_FLAGS", 0)  # the test's own folder goes again
    return made


def refused(machine: Machine, *volumes: dict[str, Any]) -> tuple[str, str]:
    """By which name, and that nothing was changed."""
    before = {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()}
    for check in (True, False):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - a class of the role's, loaded by path
            machine.bring(*volumes, check=check)
        assert type(raised.value).__name__ == "Refused", raised.value
    assert {path: path.read_bytes() for path in machine.root.rglob("*") if path.is_file()} == before
    changing = [one for one in machine.done if one[0] not in {"sh", "wipefs"}]
    assert changing == []
    return raised.value.name, str(raised.value)  # type: ignore[attr-defined]


def test_an_empty_volume_gets_a_file_system_lines_and_mounts_and_a_second_run_changes_nothing(
    machine: Machine,
) -> None:
    machine.open("data")
    checked = machine.bring(machine.volume(), check=True)
    assert not any(one[0].startswith("mkfs") for one in machine.done)
    assert not (machine.root / "crypttab").exists()
    first = machine.bring(machine.volume())
    assert checked == first
    assert first["changed"]
    assert machine.content == {"data": "ext4"}
    assert f"data UUID={UUID} none luks,noauto,headless=true\n" in (machine.root / "crypttab").read_text()
    assert machine.fstab.startswith("UUID=1 / ext4 defaults 0 1\n")
    assert set(machine.mounts) == {
        str(machine.root / "volumes/data"),
        machine.place("a"),
        machine.place("b"),
    }
    done = len(machine.done)
    again = machine.bring(machine.volume())
    assert (again["changed"], again["changes"], again["diff"]) == (False, [], [])
    assert {one[0] for one in machine.done[done:]} == {"sh", "wipefs"}


def test_a_place_on_a_volume_has_the_owner_and_mode_that_it_had(machine: Machine) -> None:
    machine.open("data")
    (machine.root / "places/a").mkdir(mode=0o710)
    machine.bring(machine.volume())
    found = (machine.root / f"volumes/data{machine.place('a')}").stat()
    assert found.st_mode & 0o7777 == 0o710


def test_a_volume_with_its_file_system_is_never_formatted(machine: Machine) -> None:
    """As after the system of the node was installed anew, or a run that was cut off."""
    machine.open("data")
    machine.content["data"] = "ext4"
    machine.bring(machine.volume())
    assert not any(one[0].startswith("mkfs") for one in machine.done)


def test_a_volume_that_the_tpm_opens_now_is_no_longer_held_back(machine: Machine) -> None:
    machine.open("data")
    machine.bring(machine.volume())
    drop_in = machine.root / "units/systemd-cryptsetup@data.service.d/50-appliance-disks.conf"
    assert "ConditionPathExists=/dev/mapper/data" in drop_in.read_text()
    assert machine.bring(machine.volume(unlock="tpm2"))["changed"]
    assert not drop_in.exists()
    assert not machine.bring(machine.volume(unlock="tpm2"))["changed"]


def test_volumes_that_are_named_no_longer_leave_the_tables(machine: Machine) -> None:
    machine.open("data")
    machine.bring(machine.volume())
    assert machine.bring()["changed"]
    assert machine.fstab == "UUID=1 / ext4 defaults 0 1\n"
    assert not machine.bring()["changed"]


def test_a_closed_volume_is_said_with_what_opens_it(machine: Machine) -> None:
    name, says = refused(machine, machine.volume())
    assert (name, says) == ("volume-closed", f"not open: data; open it with: {COMMAND}")


def test_another_volume_of_that_name_is_not_taken(machine: Machine) -> None:
    machine.open("data", uuid="00000000-2b2e-4a9b-8f1c-2f4a7d1c0b11")
    assert refused(machine, machine.volume())[0] == "other-volume"


def test_a_link_that_is_no_volume_is_not_taken(machine: Machine) -> None:
    (machine.root / "mapper/data").touch()
    assert refused(machine, machine.volume())[0] == "other-volume"


@pytest.mark.parametrize("found", ["xfs", "LVM2_member", "swap"])
def test_nothing_is_made_where_something_is(machine: Machine, found: str) -> None:
    machine.open("data")
    machine.content["data"] = found
    name, says = refused(machine, machine.volume())
    assert name == "other-content"
    assert found in says


def test_a_volume_of_which_nobody_can_say_what_it_holds_is_not_empty(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.open("data")
    answer = subprocess.CompletedProcess([], 0, "no JSON", "")
    monkeypatch.setattr(machine.module, "run", lambda *_: answer)
    monkeypatch.setattr(machine.module, "refuse_missing", lambda _: None)
    assert refused(machine, machine.volume())[0] == "use-unknown"


def test_data_below_a_mount_is_never_hidden(machine: Machine) -> None:
    machine.open("data")
    (machine.root / "places/b").mkdir()
    (machine.root / "places/b/journal").touch()
    name, says = refused(machine, machine.volume())
    assert name == "hidden-data"
    assert "journal" in says
    assert machine.place("b") in says


def test_lost_and_found_is_nobodys_data(machine: Machine) -> None:
    machine.open("data")
    (machine.root / "places/b/lost+found").mkdir(parents=True)
    assert machine.bring(machine.volume())["changed"]


@pytest.mark.parametrize("kind", ["link", "file", "link above"])
def test_a_place_that_is_no_folder(machine: Machine, kind: str) -> None:
    machine.open("data")
    place = machine.root / "places/a"
    if kind == "file":
        place.touch()
    else:
        (machine.root / "elsewhere").mkdir()
        place.symlink_to(machine.root / "elsewhere")
    mounts = [f"{place}/below"] if kind == "link above" else [str(place)]
    assert refused(machine, machine.volume(mounts=mounts))[0] == "no-folder"


def test_what_else_is_mounted_there_stays(machine: Machine) -> None:
    machine.open("data")
    machine.mounts[machine.place("a")] = ("/dev/sda5", "/")
    assert refused(machine, machine.volume())[0] == "other-mount"


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("crypttab", "data UUID=other none luks"),
        ("crypttab", f"other UUID={UUID} none luks"),
        ("fstab", "/dev/sda5 {a} ext4 defaults 0 2"),
    ],
)
def test_lines_of_somebody_else_are_not_contradicted(machine: Machine, table: str, line: str) -> None:
    machine.open("data")
    with (machine.root / table).open("a") as file:
        file.write(line.format(a=machine.place("a")) + "\n")
    assert refused(machine, machine.volume())[0] == "foreign-entry"


@pytest.mark.parametrize(
    ("filesystem", "program", "package"),
    [("ext4", "mkfs.ext4", "e2fsprogs"), ("xfs", "mkfs.xfs", "xfsprogs")],
)
def test_what_the_node_lacks_is_named(
    machine: Machine, filesystem: str, program: str, package: str
) -> None:
    machine.open("data")
    machine.missing.add(program)
    (machine.root / "attach").unlink()
    name, says = refused(machine, machine.volume(filesystem=filesystem))
    assert name == "packages-missing"
    assert package in says
    assert "systemd-cryptsetup" in says


def test_what_fails_is_told_by_its_command(machine: Machine) -> None:
    machine.open("data")
    machine.fails = "daemon-reload"
    with pytest.raises(Exception, match="systemctl daemon-reload ended with 1: it failed"):
        machine.bring(machine.volume())


def test_mounts_are_read_as_the_kernel_has_them(machine: Machine, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("36 35 254:0 /srv/a /srv/a rw,noatime shared:1 - ext4 /dev/mapper/data rw\n")
    read = machine.module.refuse_place.__globals__["read_mounts"]
    assert read(table) == {"/srv/a": ("/dev/mapper/data", "/srv/a")}
