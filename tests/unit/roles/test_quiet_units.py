"""Which units are stopped, and which nobody has judged; also on what Debian 12 and 13 enable."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.host_data import load_host_data, patterns

if TYPE_CHECKING:
    from collections.abc import Callable

RECORDED = Path(__file__).parent / "recorded"
OFF = ["apt-daily.timer", "snapd.*"]


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("quiet_host/library/quiet_units.py")


@pytest.fixture(scope="module")
def rules(module: Any) -> Any:
    return sys.modules[module.differences.__module__]


def present(rules: Any, *rows: tuple[str, str, str]) -> dict[str, Any]:
    return {name: rules.Unit(name, file, active) for name, file, active in rows}


@pytest.mark.parametrize(
    ("row", "stopped"),
    [
        (("apt-daily.timer", "enabled", "active"), True),
        (("apt-daily.timer", "static", "inactive"), True),
        (("apt-daily.timer", "alias", "inactive"), True),
        (("apt-daily.timer", "masked", "active"), True),
        (("apt-daily.timer", "masked", "inactive"), False),
        (("apt-daily.timer", "masked-runtime", "inactive"), False),
        (("snapd.socket", "disabled", "inactive"), True),
        (("ssh.service", "enabled", "active"), False),
    ],
)
def test_a_unit_is_stopped_unless_it_is_masked_and_idle(
    rules: Any, row: tuple[str, str, str], *, stopped: bool
) -> None:
    found = rules.differences(present(rules, row), OFF, [])
    assert [item.wanted for item in found] == ["masked"] * stopped


def test_what_the_node_does_not_have_is_left_alone(rules: Any) -> None:
    assert rules.differences({}, OFF, []) == []


@pytest.mark.parametrize(
    ("file", "active", "changes"),
    [
        ("enabled", "active", 0),
        ("disabled", "active", 1),
        ("enabled", "inactive", 1),
        ("masked", "inactive", 1),
    ],
)
def test_a_wanted_unit_is_enabled_and_active(rules: Any, file: str, active: str, changes: int) -> None:
    found = rules.differences(
        present(rules, ("chrony.service", file, active)),
        ["chrony.*"],
        ["chrony.service"],
    )
    assert [item.wanted for item in found] == ["on"] * changes


@pytest.mark.parametrize(("file", "changes"), [("enabled", 0), ("disabled", 1)])
def test_in_a_container_a_wanted_unit_is_enabled_and_need_not_run(
    rules: Any, file: str, changes: int
) -> None:
    found = rules.differences(
        present(rules, ("chrony.service", file, "inactive")), [], ["chrony.service"], own_kernel=False
    )
    assert len(found) == changes


def test_a_wanted_unit_that_is_not_there_is_a_difference(rules: Any) -> None:
    (item,) = rules.differences({}, [], ["chrony.service"])
    assert str(item) == "chrony.service: no file, inactive -> on"


@pytest.mark.parametrize(
    ("row", "unknown"),
    [
        (("spy.service", "enabled", "inactive"), True),
        (("spy.timer", "static", "active"), True),
        (("spy.socket", "enabled-runtime", "inactive"), True),
        (("spy.path", "", "active"), True),
        (("spy.service", "disabled", "inactive"), False),
        (("spy.service", "static", "inactive"), False),
        (("spy.service", "masked", "inactive"), False),
        (("spy.target", "enabled", "active"), False),
        (("known-one.service", "enabled", "active"), False),
    ],
)
def test_what_starts_by_itself_and_is_on_no_list_is_unknown(
    rules: Any, row: tuple[str, str, str], unknown: bool
) -> None:
    found = rules.unknown_units(present(rules, row), ["known-*.service"])
    assert found == ([row[0]] if unknown else [])


def test_units_come_from_both_listings(rules: Any) -> None:
    files = rules.parse_files("a.service enabled enabled\nb.service static -\nb2.service alias -\n\n")
    loaded = rules.parse_loaded(
        "a.service loaded active running A and more\nc.timer loaded active waiting C\n"
        "gone.service not-found inactive dead gone.service\n"
    )
    found = {name: (unit.file, unit.active) for name, unit in rules.units(files, loaded).items()}
    assert found == {
        "a.service": ("enabled", "active"),
        "b.service": ("static", "inactive"),
        "b2.service": ("alias", "inactive"),
        "c.timer": ("", "active"),
    }


def crowded(rules: Any, release: int) -> dict[str, Any]:
    """The units of a Debian with the standard system and some eighty packages that start something."""
    text = (RECORDED / f"debian-{release}-units.txt").read_text()
    return dict(rules.units(rules.parse_files(text), {}))


#: Of those, what no list names: programs of a site's own choice, whose reason the site has to give.
STRANGERS = {
    *("chkrootkit.timer", "containerd.service", "docker.service", "docker.socket", "fail2ban.service"),
    *("prometheus-node-exporter.service", "snmpd.service", "usbguard.service", "usbguard-dbus.service"),
}


def known() -> list[str]:
    data = load_host_data()
    return [*patterns(data.quiet), *patterns(data.stopped), *patterns(data.clocks)]


@pytest.mark.parametrize("release", [12, 13])
def test_everything_that_debians_packages_enable_has_been_judged(rules: Any, release: int) -> None:
    assert set(rules.unknown_units(crowded(rules, release), known())) == STRANGERS


@pytest.mark.parametrize("release", [12, 13])
def test_what_phones_home_on_debian_is_stopped(rules: Any, release: int) -> None:
    data = load_host_data()
    off = (*patterns(data.stopped), *patterns(data.clocks))
    stopped = {item.unit for item in rules.differences(crowded(rules, release), off, [])}
    assert stopped >= {
        *("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service", "snapd.socket"),
        *("fwupd-refresh.timer", "systemd-timesyncd.service", "multipathd.service", "ModemManager.service"),
        *("avahi-daemon.socket", "cups-browsed.service", "pollinate.service", "cloud-init-local.service"),
        *("certbot.timer", "rpcbind.socket", "packagekit.service", "geoclue.service", "lldpd.service"),
    }
    assert stopped & {"ssh.service", "ssh.socket", "ufw.service", "systemd-networkd.service"} == set()


@pytest.mark.parametrize("release", [12, 13])
def test_every_script_of_cron_and_logins_on_debian_has_been_judged(rules: Any, release: int) -> None:
    data = load_host_data()
    scripts = (RECORDED / f"debian-{release}-scripts.txt").read_text().split()
    assert (
        rules.unknown_scripts(scripts, [*patterns(data.quiet_scripts), *patterns(data.scripts_off)]) == []
    )


def test_a_script_counts_when_it_would_be_run(module: Any, tmp_path: Path) -> None:
    rows = {
        "etc/cron.daily/spy": 0o755,
        "etc/cron.daily/silenced": 0o644,
        "etc/cron.d/spy": 0o644,
        "etc/cron.d/.placeholder": 0o644,
        "etc/update-motd.d/50-news": 0o755,
        "etc/update-motd.d/60-silenced": 0o644,
        "var/spool/cron/crontabs/root": 0o600,
    }
    for name, mode in rows.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.chmod(mode)
    assert module.read_scripts(tmp_path) == [
        *("/etc/cron.d/spy", "/etc/cron.daily/spy", "/var/spool/cron/crontabs/root"),
        "/etc/update-motd.d/50-news",
    ]


class Systemd:
    """Units in memory, changed by the commands that the module gives."""

    def __init__(self, module: Any, units: dict[str, Any]) -> None:
        self.module, self.units, self.ran = module, units, []

    def systemctl(self, *words: str) -> str:
        self.ran.append(words)
        verb, names = words[0], words[words.index("--") + 1 :]
        if verb == "stop" and any("@." in name for name in names):
            raise self.module.Unwilling("is missing the instance name")
        for name in names:
            unit = self.units.get(name) or self.module.Unit(name)
            states = {
                "stop": {"active": "inactive"},
                # A timer that is at work when its service goes fails.
                "mask": {"file": "masked", "active": "failed" if unit.active == "active" else unit.active},
                "unmask": {"file": "disabled"} if unit.file == "masked" else {},
                "enable": {"file": "enabled", "active": "active"},
            }
            self.units[name] = replace(unit, **states[verb])
        return ""


@pytest.fixture
def node(module: Any, rules: Any, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    rows = (
        ("apt-daily.timer", "enabled", "active"),
        ("chrony.service", "masked", "inactive"),
        ("auditd.service", "disabled", "inactive"),
        ("spy.service", "enabled", "active"),
    )
    systemd = Systemd(module, present(rules, *rows))
    monkeypatch.setattr(module, "systemctl", systemd.systemctl)
    monkeypatch.setattr(module, "read_units", lambda: dict(systemd.units))
    monkeypatch.setattr(module, "read_scripts", list)
    monkeypatch.setattr(module, "in_container", lambda: False)
    return systemd


PARAMETERS: dict[str, Any] = {
    "off": ["apt-daily.timer", "chrony.*"],
    "on": ["chrony.service"],
    "on_own_kernel": ["auditd.service", "absent.service"],
    "scripts_off": [],
    "known": [],
    "known_scripts": [],
    "to_come": False,
}


def test_units_are_stopped_and_started_once(module: Any, node: Systemd) -> None:
    done = module.bring_about(PARAMETERS, check=False)
    assert done["changed"] is True
    assert done["unknown"] == ["spy.service"]
    assert node.units["apt-daily.timer"].active == "inactive"
    assert {name: unit.file for name, unit in node.units.items()} == {
        "apt-daily.timer": "masked",
        "chrony.service": "enabled",
        "auditd.service": "enabled",
        "spy.service": "enabled",
    }
    assert module.bring_about(PARAMETERS, check=False)["changed"] is False


def test_of_a_template_only_instances_are_stopped(module: Any, rules: Any, node: Systemd) -> None:
    for name, file, active in (
        ("wpa@.service", "disabled", "inactive"),
        ("wpa@wlan0.service", "", "active"),
    ):
        node.units[name] = rules.Unit(name, file, active)
    parameters = {**PARAMETERS, "off": ["wpa@*"], "on": []}
    module.bring_about(parameters, check=False)
    assert node.ran[0] == ("stop", "--", "wpa@wlan0.service")
    assert {
        name: (unit.file, unit.active) for name, unit in node.units.items() if name.startswith("wpa")
    } == {
        "wpa@.service": ("masked", "inactive"),
        "wpa@wlan0.service": ("masked", "inactive"),
    }


def test_check_tells_the_same_and_touches_nothing(module: Any, node: Systemd) -> None:
    told = module.bring_about(PARAMETERS, check=True)
    assert node.ran == []
    assert told["changes"] == module.bring_about(PARAMETERS, check=False)["changes"]


def test_a_container_keeps_no_records_of_the_kernel(
    module: Any, node: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "in_container", lambda: True)
    module.bring_about(PARAMETERS, check=False)
    assert node.units["auditd.service"].file == "disabled"


@pytest.mark.parametrize("to_come", [True, False])
def test_check_on_a_clean_node_expects_what_packages_will_bring(
    module: Any, node: Systemd, to_come: bool
) -> None:
    del node.units["chrony.service"]
    told = module.bring_about({**PARAMETERS, "to_come": to_come}, check=True)
    assert any("chrony" in line for line in told["changes"]) is not to_come


@pytest.mark.usefixtures("node")
def test_a_unit_that_does_not_stop_is_a_failure(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "systemctl", lambda *_: "")
    with pytest.raises(module.Unwilling, match=r"apt-daily\.timer"):
        module.bring_about(PARAMETERS, check=False)


@pytest.mark.usefixtures("node")
def test_a_script_loses_the_right_to_be_run(module: Any, tmp_path: Path) -> None:
    script = tmp_path / "50-motd-news"
    script.touch()
    script.chmod(0o755)
    parameters = {**PARAMETERS, "scripts_off": [str(script), str(tmp_path / "absent")]}
    assert module.bring_about(parameters, check=True)["changes"][-1].startswith(str(script))
    module.bring_about(parameters, check=False)
    assert script.stat().st_mode & 0o777 == 0o644
    assert module.bring_about(parameters, check=False)["changed"] is False
