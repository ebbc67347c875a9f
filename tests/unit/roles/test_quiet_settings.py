"""Files, kernel settings and the lock of modules: compared, changed, left alone where not ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from appliance.definition.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = Path(__file__).parents[3] / "roles/quiet_host"


def test_what_an_inventory_leaves_out_is_what_the_role_does_by_itself() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    host = Host().as_dict()
    time = host.pop("time")
    assert isinstance(time, dict)
    wanted = {"time_source": time["source"], "time_servers": time["servers"], **host}
    assert {name: defaults[f"quiet_host_{name}"] for name in wanted} == wanted


# --- files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(role_module: Callable[[str], Any]) -> Any:
    return role_module("quiet_host/library/host_files.py")


@pytest.fixture
def followed(files: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done after files changed."""
    done: list[str] = []
    monkeypatch.setattr(files, "follow", done.extend)
    monkeypatch.setattr(files.os, "chown", lambda *_: None)
    return done


def entry(path: Path, text: str = "ours\n", **more: Any) -> dict[str, Any]:
    return {"path": str(path), "text": text, "mode": "0644", "where": None, "then": None, **more}


@pytest.mark.usefixtures("followed")
def test_a_file_is_written_once_with_the_folders_it_needs(files: Any, tmp_path: Path) -> None:
    path = tmp_path / "coredump.conf.d/90-appliance.conf"
    done = files.bring_about([entry(path)], check=False)
    assert (done["changed"], done["changes"]) == (True, [f"{path}: absent"])
    assert path.read_text() == "ours\n"
    assert path.parent.stat().st_mode & 0o777 == 0o755
    assert files.bring_about([entry(path)], check=False)["changed"] is False


@pytest.mark.usefixtures("followed")
@pytest.mark.parametrize("damage", ["text", "mode", "link"])
def test_what_is_not_exactly_ours_is_replaced(files: Any, tmp_path: Path, damage: str) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    files.bring_about([entry(path)], check=False)
    if damage == "text":
        path.write_text("theirs\n")
    elif damage == "mode":
        path.chmod(0o666)
    else:
        other.write_text("ours\n")
        path.unlink()
        path.symlink_to(other)
    assert files.bring_about([entry(path)], check=False)["changed"] is True
    assert (path.read_text(), path.is_symlink(), path.stat().st_mode & 0o777) == ("ours\n", False, 0o644)


def test_a_file_whose_program_is_not_there_is_left_out(
    files: Any, followed: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    done = files.bring_about([entry(path, where=str(tmp_path / "absent"), then="audit")], check=False)
    assert (done["changed"], done["left_out"], path.exists(), followed) == (False, [str(path)], False, [])


def test_check_shows_the_change_and_writes_nothing(files: Any, followed: list[str], tmp_path: Path) -> None:
    path = tmp_path / "file"
    done = files.bring_about([entry(path, then="systemd")], check=True)
    assert (done["changed"], done["diff"][0]["after"], path.exists(), followed) == (
        True,
        "ours\n",
        False,
        [],
    )


def test_what_makes_files_count_follows_once_and_only_after_a_change(
    files: Any, followed: list[str], tmp_path: Path
) -> None:
    entries = [
        entry(tmp_path / name, then=then)
        for name, then in (("a", "systemd"), ("b", "systemd"), ("c", "tmp"))
    ]
    files.bring_about(entries, check=False)
    assert followed == ["systemd", "tmp"]
    files.bring_about(entries, check=False)
    assert followed == ["systemd", "tmp"]


def test_a_command_that_fails_is_told(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files.THEN, "audit", ((), [("sh", "-c", "echo bad rule >&2; exit 3")]))
    with pytest.raises(files.Failed, match="ended with 3: bad rule"):
        files.follow(["audit"])


@pytest.mark.parametrize("old", [None, "theirs\n"])
def test_a_file_that_cannot_be_made_to_count_is_put_back_and_tried_again(
    files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: str | None
) -> None:
    monkeypatch.setattr(files.os, "chown", lambda *_: None)
    followed, other = entry(tmp_path / "rules", then="audit"), entry(tmp_path / "issue")
    if old is not None:
        (tmp_path / "rules").write_text(old)
    monkeypatch.setitem(files.THEN, "audit", ((), [("false",)]))
    with pytest.raises(files.Failed):
        files.bring_about([followed, other], check=False)
    assert files.read(tmp_path / "rules") == (old or "")
    assert (tmp_path / "issue").read_text() == "ours\n"
    monkeypatch.setitem(files.THEN, "audit", ((), [("touch", str(tmp_path / "counted"))]))
    assert files.bring_about([followed, other], check=False)["changed"] is True
    assert (tmp_path / "counted").exists()


def test_what_does_not_run_is_not_told_to_read_again(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(files.THEN, "chrony", (("false",), [("false",)]))
    files.follow(["chrony"])


# --- kernel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kernel_module(role_module: Callable[[str], Any]) -> Any:
    return role_module("quiet_host/library/kernel_settings.py")


class Machine:
    """A kernel below a folder; ``locked`` names what may not be written, as in a container."""

    def __init__(self, module: Any, root: Path) -> None:
        machine = self
        self.locked: set[str] = set()
        self.unloaded: list[str] = []
        self.root = root
        for name, value in {
            "kernel/kptr_restrict": "1",
            "kernel/core_pattern": "core",
            "fs/x": "0",
        }.items():
            path = root / "sys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        (root / "modules").write_text(
            "usb_storage 81920 0 - Live 0x0\nbluetooth 1 2 btusb, Live 0x0\next4 1 1 - Live\n"
        )

        class Memory(module.Kernel):  # type: ignore[misc, name-defined]
            def ours(self, name: str) -> bool:
                return name not in machine.locked

            def unload(self, name: str) -> None:
                machine.unloaded.append(name)

        self.kernel = Memory(root)


@pytest.fixture
def machine(kernel_module: Any, tmp_path: Path) -> Machine:
    return Machine(kernel_module, tmp_path)


WANTED = {"kernel.kptr_restrict": "2", "fs.x": "0", "kernel.yama.ptrace_scope": "2"}


def test_settings_are_written_where_they_differ(kernel_module: Any, machine: Machine) -> None:
    done = kernel_module.bring_about(machine.kernel, WANTED, [], check=False)
    assert done["changes"] == ["kernel.kptr_restrict: 1 -> 2"]
    assert done["absent"] == ["kernel.yama.ptrace_scope"]
    assert (machine.root / "sys/kernel/kptr_restrict").read_text() == "2"
    assert kernel_module.bring_about(machine.kernel, WANTED, [], check=False)["changed"] is False


def test_check_of_the_kernel_writes_nothing(kernel_module: Any, machine: Machine) -> None:
    done = kernel_module.bring_about(machine.kernel, WANTED, ["usb_storage"], check=True)
    assert len(done["changes"]) == 2
    assert (machine.root / "sys/kernel/kptr_restrict").read_text() == "1\n"
    assert machine.unloaded == []


def test_the_hosts_settings_are_left_alone_and_told(kernel_module: Any, machine: Machine) -> None:
    machine.locked = {"kernel", "kernel.kptr_restrict"}
    done = kernel_module.bring_about(machine.kernel, WANTED, ["usb_storage"], check=False)
    assert (done["changed"], done["of_the_host"]) == (False, ["kernel.kptr_restrict"])
    assert machine.unloaded == []


def test_modules_are_unloaded_unless_somebody_uses_them(kernel_module: Any, machine: Machine) -> None:
    done = kernel_module.bring_about(
        machine.kernel, {}, ["usb-storage", "bluetooth", "firewire_core"], check=False
    )
    assert machine.unloaded == ["usb_storage"]
    assert (done["changes"], done["in_use"]) == (["module usb_storage: loaded -> not"], ["bluetooth"])


def test_a_locked_kernel_keeps_its_modules(kernel_module: Any, machine: Machine) -> None:
    (machine.root / "sys/kernel/modules_disabled").write_text("1\n")
    done = kernel_module.bring_about(machine.kernel, {}, ["usb_storage"], check=False)
    assert (done["changed"], done["in_use"], machine.unloaded) == (False, ["usb_storage"], [])


def test_a_kernel_of_one_piece_has_no_modules(kernel_module: Any, machine: Machine) -> None:
    (machine.root / "modules").unlink()
    assert kernel_module.bring_about(machine.kernel, {}, ["usb_storage"], check=False)["changed"] is False


@pytest.mark.skipif(os.geteuid() != 0, reason="a file that root cannot write is of another kind")
def test_a_value_that_the_kernel_refuses_is_told(kernel_module: Any) -> None:
    with pytest.raises(kernel_module.Refused, match=r"kernel\.ostype stays Linux; the kernel refuses x"):
        kernel_module.Kernel().write("kernel.ostype", "x")


# --- the lock of modules -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def lock(role_module: Callable[[str], Any]) -> Any:
    return role_module("quiet_host/library/module_lock.py")


class Boot:
    """systemd and the kernel's switch, below a folder."""

    def __init__(self, module: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[str] = []
        self.on = False
        self.switch = root / "kernel/modules_disabled"
        self.switch.parent.mkdir()
        self.switch.write_text("0\n")
        self.ours = True
        monkeypatch.setattr(module, "SWITCH", self.switch)
        monkeypatch.setattr(module, "UNITS", root)
        monkeypatch.setattr(module, "systemctl", self.systemctl)
        monkeypatch.setattr(module, "enabled", lambda _: self.on)
        monkeypatch.setattr(module, "is_ours", lambda: self.ours)

    def systemctl(self, *words: str) -> None:
        self.ran.append(" ".join(words))
        if words[0] in {"enable", "disable"}:
            self.on = words[0] == "enable"
        if words[0] == "restart" and self.ours:
            self.switch.write_text("1\n")


@pytest.fixture
def boot(lock: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boot:
    return Boot(lock, tmp_path, monkeypatch)


class Task:
    """What Ansible passes to the module."""

    def __init__(self, state: str, *, check: bool = False) -> None:
        self.params = {"state": state, "unit": "lock.service", "text": "[Unit]\n"}
        self.check_mode = check


def test_the_unit_is_enabled_and_run_once(lock: Any, boot: Boot, tmp_path: Path) -> None:
    assert lock.bring_about(Task("locked")) == {
        "changed": True,
        "changes": [
            f"{tmp_path}/lock.service: absent",
            "lock.service: not enabled",
            "kernel.modules_disabled: 0 -> 1",
        ],
        "locked": True,
    }
    assert boot.ran == ["daemon-reload", "enable lock.service", "restart lock.service"]
    assert lock.bring_about(Task("locked"))["changed"] is False


def test_a_kernel_that_came_up_open_is_locked_again(lock: Any, boot: Boot) -> None:
    lock.bring_about(Task("locked"))
    boot.switch.write_text("0\n")
    assert lock.bring_about(Task("locked"))["changes"] == ["kernel.modules_disabled: 0 -> 1"]


def test_check_of_the_lock_locks_nothing(lock: Any, boot: Boot, tmp_path: Path) -> None:
    assert lock.bring_about(Task("locked", check=True))["changed"] is True
    assert (boot.ran, boot.switch.read_text(), (tmp_path / "lock.service").exists()) == ([], "0\n", False)


def test_the_hosts_switch_is_no_difference(lock: Any, boot: Boot) -> None:
    boot.ours = False
    lock.bring_about(Task("locked"))
    assert lock.bring_about(Task("locked"))["changed"] is False


def test_open_takes_the_unit_away_and_says_that_the_kernel_is_still_locked(
    lock: Any, boot: Boot, tmp_path: Path
) -> None:
    assert lock.bring_about(Task("open"))["changed"] is False
    lock.bring_about(Task("locked"))
    done = lock.bring_about(Task("open"))
    assert (done["changed"], done["locked"], boot.on) == (True, True, False)
    assert not (tmp_path / "lock.service").exists()


def test_nothing_is_locked_while_drivers_are_on_their_way_in() -> None:
    """A network card whose driver comes too late would leave the node without its network."""
    unit = (ROLE / "templates/etc/systemd/system/appliance-lock-modules.service.j2").read_text()
    steps = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert steps[0].startswith("ExecStart=/usr/bin/udevadm settle ")
    assert steps[-1] == "ExecStart=/bin/sh -c 'echo 1 >/proc/sys/kernel/modules_disabled'"
