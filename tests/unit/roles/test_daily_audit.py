"""The module ``daily_audit``: what it writes, when it acts on systemd, and that nothing is left of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jinja2 import Environment

from appliance.node.audit import daily
from appliance.node.qualification import daily as promise

if TYPE_CHECKING:
    from collections.abc import Callable

ROLE = Path(__file__).parents[3] / "roles/daily_audit"
TIMER, SERVICE = "appliance-audit.timer", "appliance-audit.service"

WAITS = {
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "NeedDaemonReload": "no",
}
RESTS = {"LoadState": "loaded", "ActiveState": "inactive", "NeedDaemonReload": "no", "ExecMainStatus": "0"}
NONE = {"LoadState": "not-found", "UnitFileState": "", "ActiveState": "inactive"}


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("daily_audit/library/daily_audit.py")


class Systemd:
    """Units as a test says, and what systemctl was told to do; files lie in a folder."""

    def __init__(self, module: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.folder = module, folder
        self.units: dict[str, dict[str, str]] = {TIMER: dict(NONE), SERVICE: dict(NONE)}
        self.told: list[str] = []
        self.checked: list[dict[str, bytes]] = []
        self.fault = False
        monkeypatch.setattr(module, "UNITS", folder / "system")
        monkeypatch.setattr(module, "read_state", lambda unit: self.units[unit])
        monkeypatch.setattr(module, "systemctl", lambda *words: self.told.append(" ".join(words)))
        monkeypatch.setattr(module, "check_units", self.check_units)

    def check_units(self, texts: dict[str, bytes]) -> None:
        self.checked.append(texts)
        if self.fault:
            raise self.module.Refused("systemd finds fault with the units: no")

    def files(self, *, settings: bytes = b"{}", timer: bytes = b"[Timer]\n") -> list[Any]:
        return [
            self.module.File(self.folder / "lib/audit.pyz", b"\0program", 0o644, shown=False),
            self.module.File(self.folder / "etc/audit.json", settings, 0o600),
            self.module.File(self.folder / "system" / SERVICE, b"[Service]\n", 0o644),
            self.module.File(self.folder / "system" / TIMER, timer, 0o644),
        ]

    def have(self, *, check: bool = False, **more: bytes) -> dict[str, Any]:
        self.told.clear()
        result: dict[str, Any] = self.module.bring_about(self.files(**more), check)
        if not check:
            self.units = {TIMER: dict(WAITS), SERVICE: dict(RESTS)}
        return result

    def lose(self, *, check: bool = False) -> dict[str, Any]:
        self.told.clear()
        result: dict[str, Any] = self.module.take_away(self.files(), check)
        return result

    def written(self) -> list[tuple[int, int]]:
        """What tells whether a file was written anew; reading it counts for nothing."""
        return [(path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(self.folder.rglob("*"))]

    def there(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@pytest.fixture
def systemd(module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    return Systemd(module, tmp_path, monkeypatch)


def test_on_a_clean_node_all_of_it_is_made_after_systemd_has_judged(systemd: Systemd) -> None:
    rehearsed = systemd.have(check=True)
    assert (systemd.there(), systemd.told, systemd.checked) == ([], [], [])
    done = systemd.have()
    assert done["changes"] == rehearsed["changes"]
    assert len(done["changes"]) == 7
    assert systemd.told == ["daemon-reload", f"enable {TIMER}", f"restart {TIMER}"]
    assert systemd.checked == [{SERVICE: b"[Service]\n", TIMER: b"[Timer]\n"}]
    modes = {path.name: path.stat().st_mode & 0o777 for path in systemd.folder.rglob("audit.*")}
    assert modes == {"audit.pyz": 0o644, "audit.json": 0o600}
    assert "\0" not in str(done["diff"]), "nobody reads a program in a difference"


def test_a_second_run_changes_nothing(systemd: Systemd) -> None:
    systemd.have()
    before = systemd.written()
    assert systemd.have() == {"changed": False, "changes": [], "diff": []}
    assert (systemd.told, len(systemd.checked)) == ([], 1)
    assert systemd.written() == before


def test_units_that_systemd_refuses_change_nothing(systemd: Systemd) -> None:
    systemd.have()
    systemd.fault = True
    with pytest.raises(systemd.module.Refused):
        systemd.have(timer=b"[Tmer]\n", settings=b"[]")
    assert (systemd.folder / "system" / TIMER).read_bytes() == b"[Timer]\n"
    assert (systemd.folder / "etc/audit.json").read_bytes() == b"{}"
    assert systemd.told == []


def test_other_settings_are_written_and_the_timer_left_alone(systemd: Systemd) -> None:
    systemd.have()
    done = systemd.have(settings=b'{"other": 1}')
    assert done["changes"] == [f"{systemd.folder}/etc/audit.json: differs"]
    assert (systemd.folder / "etc/audit.json").read_bytes() == b'{"other": 1}'
    assert systemd.told == []


def break_mode(path: Path) -> None:
    path.chmod(0o666)


def break_kind(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def break_bytes(path: Path) -> None:
    path.write_bytes(b"\0Program")


@pytest.mark.parametrize("harm", [break_mode, break_kind, break_bytes, Path.unlink])
def test_a_program_that_is_not_the_one_is_replaced(systemd: Systemd, harm: Callable[[Path], None]) -> None:
    systemd.have()
    path = systemd.folder / "lib/audit.pyz"
    harm(path)
    done = systemd.have()
    assert [change.partition(":")[0] for change in done["changes"]] == [str(path)]
    assert (path.read_bytes(), path.is_symlink(), path.stat().st_mode & 0o777) == (
        b"\0program",
        False,
        0o644,
    )


@pytest.mark.parametrize(
    ("timer", "service", "commands"),
    [
        ({}, {}, []),
        ({"UnitFileState": "disabled"}, {}, [f"enable {TIMER}"]),
        ({"ActiveState": "inactive"}, {}, [f"restart {TIMER}"]),
        ({"NeedDaemonReload": "yes"}, {}, ["daemon-reload"]),
        ({}, {"NeedDaemonReload": "yes"}, ["daemon-reload"]),
        ({}, {"ActiveState": "failed", "ExecMainStatus": "8"}, []),
        ({}, {"ActiveState": "failed", "ExecMainStatus": "5"}, [f"reset-failed {SERVICE}"]),
    ],
)
def test_does_exactly_what_is_missing(
    systemd: Systemd, timer: dict[str, str], service: dict[str, str], commands: list[str]
) -> None:
    systemd.have()
    systemd.units = {TIMER: {**WAITS, **timer}, SERVICE: {**RESTS, **service}}
    assert systemd.have(check=True)["changes"] == commands
    assert systemd.have()["changed"] == bool(commands)
    assert systemd.told == commands


def test_switched_off_nothing_of_it_is_left(systemd: Systemd) -> None:
    systemd.have()
    before = systemd.there()
    rehearsed = systemd.lose(check=True)
    assert (systemd.there(), systemd.told) == (before, [])
    assert systemd.lose() == rehearsed
    assert len(rehearsed["changes"]) == 4
    assert systemd.told == [f"disable --now {TIMER}", f"stop {SERVICE}", "daemon-reload"]
    assert systemd.there() == ["lib", "system"]
    systemd.units = {TIMER: dict(NONE), SERVICE: dict(NONE)}
    assert systemd.lose() == {"changed": False, "changes": [], "diff": []}
    assert systemd.told == []


def test_a_failed_audit_is_forgotten_with_it_and_what_others_keep_stays(systemd: Systemd) -> None:
    systemd.have()
    (systemd.folder / "etc/other.json").write_text("")
    systemd.units[SERVICE]["ActiveState"] = "failed"
    assert f"{SERVICE}: failed" in systemd.lose()["changes"]
    assert systemd.told[-1] == f"reset-failed {SERVICE}"
    assert "etc/other.json" in systemd.there()


def test_what_was_never_there_is_not_changed(systemd: Systemd) -> None:
    assert systemd.lose() == {"changed": False, "changes": [], "diff": []}
    assert (systemd.there(), systemd.told) == ([], [])


def test_role_program_and_promise_speak_of_the_same_units_and_files(module: Any) -> None:
    assert (module.TIMER, module.SERVICE) == (promise.TIMER, promise.SERVICE)
    paths = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert paths["daily_audit_settings_path"] == str(daily.SETTINGS)
    service = (ROLE / "templates/etc/systemd/system/appliance-audit.service.j2").read_text()
    assert f"/var/lib/{re.findall(r'^StateDirectory=(.*)$', service, re.MULTILINE)[0]}" == str(daily.FOLDER)


def rendered(name: str, *, drives: bool, gpus: bool = False) -> str:
    """A unit as Ansible makes it of its template."""
    text = (ROLE / f"templates/etc/systemd/system/{name}.j2").read_text()
    values = {"path": "/usr/local/lib/appliance/audit.pyz", "at": "03:30", "drives": drives, "gpus": gpus}
    made = Environment(trim_blocks=True, keep_trailing_newline=True).from_string(text)  # noqa: S701 - no HTML
    return made.render({f"daily_audit_{key}": value for key, value in values.items()})


def test_devices_are_for_those_alone_who_have_encrypted_drives() -> None:
    with_drives, without = (rendered(SERVICE, drives=drives).splitlines() for drives in (True, False))
    devices = ["DevicePolicy=closed", "DeviceAllow=block-* r"]
    assert set(without) - set(with_drives) == {"PrivateDevices=yes"}
    assert [line for line in with_drives if line not in without and not line.startswith("#")] == devices


def test_nvidias_driver_may_be_asked_where_gpus_are_divided() -> None:
    lines = rendered(SERVICE, drives=False, gpus=True).splitlines()
    assert "PrivateDevices=yes" not in lines
    assert [line for line in lines if line.startswith("DeviceAllow=")] == [
        *("DeviceAllow=char-nvidia rw", "DeviceAllow=char-nvidiactl rw"),
        *("DeviceAllow=char-nvidia-frontend rw", "DeviceAllow=char-nvidia-caps r"),
    ]


@pytest.mark.parametrize("drives", [True, False])
def test_the_real_systemd_accepts_the_units(module: Any, drives: bool) -> None:
    texts = {name: rendered(name, drives=drives).encode() for name in (SERVICE, TIMER)}
    module.check_units(texts)
    with pytest.raises(module.Refused, match="calendar specification"):
        module.check_units({**texts, TIMER: texts[TIMER].replace(b"03:30", b"33:30")})
