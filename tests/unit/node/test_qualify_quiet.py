"""The quiet host, judged: from a node that keeps every promise, one thing changed breaks one promise."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.host import BANNER, Host, Time
from appliance.definition.inventory import Inventory, Management, NodeEntry
from appliance.definition.partition import Partition, Team
from appliance.node.host_data import load_host_data, patterns
from appliance.node.qualification import autostart, clock, greeting, kernel, server, tries

DATA = load_host_data()
HOST = Host()

LISTING = """\
ssh.service enabled enabled
apt-daily.timer masked enabled
snapd.socket masked enabled
e2scrub_all.timer enabled enabled
dbus-org.freedesktop.Avahi.service alias -
=== units
ssh.service loaded active running OpenBSD Secure Shell server
e2scrub_all.timer loaded active waiting Periodic ext4 Online Metadata Check
apt-daily.timer masked inactive dead apt-daily.timer
=== scripts
/etc/cron.daily/dpkg
/etc/update-motd.d/10-uname
"""
TRIED = tries.Tries(
    refused=("apt-daily.timer", "snapd.socket"),
    memory={"same user": "EPERM", "root": ""},
    cores={"signal": 11, "dumped": False, "left": [], "pattern": "|/bin/false"},
    temporary="EACCES",
)


def node(text: str = LISTING) -> autostart.Autostart:
    return autostart.parse_listing(text)


# --- what starts by itself ---------------------------------------------------------------------


def test_a_quiet_node_is_quiet() -> None:
    finding = autostart.judge_stopped(node(), TRIED, DATA, "none")
    assert (finding.kept, finding.found) == (
        True,
        "2 such units, all masked and idle; 2 were tried and did not start",
    )
    assert autostart.judge_known(node(), DATA, HOST).kept


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("apt-daily.timer masked enabled", "apt-daily.timer enabled enabled", "apt-daily.timer: enabled"),
        ("apt-daily.timer masked enabled", "apt-daily.timer static -", "apt-daily.timer: static"),
        ("masked inactive dead", "loaded active waiting", "apt-daily.timer: at work"),
        ("=== units", "fwupd.service disabled -\n=== units", "fwupd.service: disabled"),
        ("/etc/cron.daily/dpkg", "/etc/cron.daily/popularity-contest", "popularity-contest: may be run"),
    ],
)
def test_what_phones_home_is_named(old: str, new: str, told: str) -> None:
    assert old in LISTING
    finding = autostart.judge_stopped(node(LISTING.replace(old, new)), TRIED, DATA, "none")
    assert not finding.kept
    assert told in finding.found


def test_a_masked_unit_that_starts_all_the_same_is_named() -> None:
    finding = autostart.judge_stopped(node(), replace(TRIED, started=("apt-daily.timer",)), DATA, "none")
    assert (finding.kept, finding.found) == (False, "apt-daily.timer: started, although it is masked")


@pytest.mark.parametrize(("source", "kept"), [("none", False), ("ntp", True), ("ptp", False)])
def test_the_sites_own_source_of_time_may_run(source: str, kept: bool) -> None:
    text = LISTING.replace("=== units", "chrony.service enabled enabled\n=== units")
    assert autostart.judge_stopped(node(text), TRIED, DATA, source).kept is kept


@pytest.mark.parametrize(
    ("old", "new", "unknown"),
    [
        ("=== units", "spy.service enabled enabled\n=== units", "spy.service"),
        ("=== scripts", "spy.timer loaded active waiting x\n=== scripts", "spy.timer"),
        ("/etc/cron.daily/dpkg", "/etc/cron.d/spy", "/etc/cron.d/spy"),
    ],
)
def test_what_nobody_has_judged_is_not_proven(old: str, new: str, unknown: str) -> None:
    finding = autostart.judge_known(node(LISTING.replace(old, new)), DATA, HOST)
    assert not finding.kept
    assert finding.reason == f"1 units or scripts start by themselves and nobody has judged them: {unknown}"


def test_the_site_may_vouch_for_its_own() -> None:
    text = LISTING.replace("=== units", "hospital-agent.service enabled enabled\n=== units")
    host = replace(HOST, known_units={"hospital-*": "reads temperatures", "other.service": "is not here"})
    finding = autostart.judge_known(node(text), DATA, host)
    assert finding.kept
    assert finding.found.endswith("\nhospital-* (reads temperatures)")


# --- what was tried ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("judge", "change"),
    [
        (tries.judge_memory, {"memory": {"same user": "", "root": ""}}),
        (tries.judge_memory, {"memory": {"same user": "ESRCH", "root": ""}}),
        (tries.judge_cores, {"cores": {**(TRIED.cores or {}), "pattern": "|/usr/bin/keeper"}}),
        (tries.judge_temporary, {"temporary": "it ran, exit status 0"}),
    ],
)
def test_what_should_have_failed_is_a_broken_promise_but_not_in_a_container(
    judge: Any, change: dict[str, Any]
) -> None:
    assert judge(TRIED).kept
    bare = judge(replace(TRIED, **change))
    assert (bare.kept, bare.reason) == (False, "")
    inside = judge(replace(TRIED, **change, container="systemd-nspawn"))
    assert (inside.kept, "systemd-nspawn" in inside.reason) == (False, True)


@pytest.mark.parametrize("change", [{"left": ["core"]}, {"signal": 0}])
def test_a_core_on_the_disk_is_a_broken_promise_everywhere(change: dict[str, Any]) -> None:
    cores = {**(TRIED.cores or {}), **change}
    finding = tries.judge_cores(replace(TRIED, cores=cores, container="systemd-nspawn"))
    assert (finding.kept, finding.reason) == (False, "")


# --- the kernel --------------------------------------------------------------------------------

LIVE = "".join(f"{entry.what[0]}={entry.value}\n" for entry in DATA.kernel)
BARRED = "".join(f"install {name} /bin/false\n" for name in patterns(DATA.modules_off))
MODULES = f"ext4 1 1 - Live 0x0\n=== configuration\n{BARRED}"
AUDIT = "active\n" + "".join(f"{rule}\n" for rule in patterns(DATA.audit))


def test_a_kernel_with_every_setting_is_fine_and_what_it_lacks_is_told() -> None:
    assert kernel.judge_settings(LIVE, DATA, "").kept
    finding = kernel.judge_settings(LIVE.replace("kernel.sysrq=0\n", ""), DATA, "")
    assert (finding.kept, "this kernel has no kernel.sysrq" in finding.found) == (True, True)


def test_one_setting_that_differs_is_named() -> None:
    text = LIVE.replace("kernel.kptr_restrict=2", "kernel.kptr_restrict=0")
    finding = kernel.judge_settings(text, DATA, "")
    assert (finding.kept, finding.found) == (False, "kernel.kptr_restrict=0, wanted 2")
    assert kernel.judge_settings(text, DATA, "lxc").reason.startswith(
        "the kernel is not the node's own (lxc)"
    )


@pytest.mark.parametrize(
    ("text", "host", "container", "told"),
    [
        (MODULES, HOST, "", ""),
        (MODULES.replace("ext4", "usb_storage"), HOST, "", "usb_storage is loaded"),
        (MODULES.replace("ext4", "usb_storage"), HOST, "lxc", ""),
        (MODULES.replace("install uas /bin/false\n", ""), HOST, "", "uas can be loaded"),
        (MODULES.replace("install uas /bin/false\n", ""), HOST, "lxc", "uas can be loaded"),
        (MODULES.replace("install uas /bin/false\n", ""), Host(usb_storage="allow"), "", ""),
        (MODULES.replace("install uas /bin/false", "install uas /bin/true"), HOST, "", "uas can be loaded"),
    ],
)
def test_an_unwanted_module_is_named(text: str, host: Host, container: str, told: str) -> None:
    finding = kernel.judge_modules(text, DATA, host, container)
    assert (finding.kept, finding.found if told else "") == (not told, told)


@pytest.mark.parametrize(
    ("text", "loading", "container", "kept", "reason"),
    [
        ("1\n", "locked", "", True, ""),
        ("0\n", "locked", "", False, ""),
        ("0\n", "locked", "lxc", False, "not the node's own"),
        ("1\n", "locked", "lxc", True, ""),
        ("0\n", "open", "", False, "leaves it open"),
        ("none\n", "locked", "", True, ""),
    ],
)
def test_the_lock_of_modules(text: str, loading: Any, container: str, kept: bool, reason: str) -> None:
    finding = kernel.judge_lock(text, Host(module_loading=loading), container)
    assert finding.kept is kept
    assert reason in finding.reason
    assert bool(finding.reason) is bool(reason)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", ""),
        ("active\n", "inactive\n", "auditd is inactive"),
        ("-w /etc/ssh -p wa -k ssh\n", "", "missing: -w /etc/ssh -p wa -k ssh"),
        ("-w /etc/ssh -p wa -k ssh", "-w /etc/ssh -p r -k ssh", "missing: -w /etc/ssh -p wa -k ssh"),
        # The kernel's spelling is another one.
        ("-w /etc/ssh -p wa -k ssh", "-a always,exit -S all -F dir=/etc/ssh -F perm=wa -F key=ssh", ""),
        ("-S init_module,finit_module,delete_module", "-S init_module,delete_module,finit_module", ""),
        ("auid!=unset -k media", "auid!=-1 -F key=media", ""),
    ],
)
def test_rules_of_the_audit_are_compared_by_what_they_mean(old: str, new: str, told: str) -> None:
    assert old in AUDIT
    finding = kernel.judge_audit(AUDIT.replace(old, new, 1), DATA, "")
    assert (finding.kept, finding.found if told else "") == (not told, told)


@pytest.mark.parametrize(("text", "container"), [("absent\n", ""), ("failed\nNo rules\n", "lxc")])
def test_an_audit_that_cannot_be_is_not_proven(text: str, container: str) -> None:
    assert kernel.judge_audit(text, DATA, container).reason


# --- the SSH server ----------------------------------------------------------------------------

OPERATOR = (ip_address("10.20.0.1"), ip_address("fd20::1"))
NODE = NodeEntry("gpu-01", "ssh", ip_address("10.20.0.11"), 22, ())
SITE = Inventory(Path("inventory.yml"), "example", Management((), OPERATOR), None, ())
SSHD = "".join(
    f"{entry.what[0].lower()} {entry.value.replace('prohibit-password', 'without-password')}\n"
    for entry in DATA.ssh
    if entry.what[0] not in {"PermitOpen", "Ciphers", "MACs", "KexAlgorithms"} and not entry.newer
) + (
    "permitopen 127.0.0.1:8000 localhost:8000\nciphers aes256-ctr\nmacs hmac-sha2-512\n"
    "kexalgorithms curve25519-sha256\n"
)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("", "", ""),
        (
            "permitrootlogin without-password",
            "permitrootlogin yes",
            "PermitRootLogin yes, wanted prohibit-password",
        ),
        (
            "permitopen 127.0.0.1:8000 localhost:8000",
            "permitopen any",
            "PermitOpen any, wanted 127.0.0.1:8000",
        ),
        ("aes256-ctr", "aes256-ctr,aes128-cbc", "Ciphers allows aes128-cbc"),
        ("macs hmac-sha2-512\n", "", "MACs is unknown"),
        ("x11forwarding no\n", "", "X11Forwarding nothing, wanted no"),
        ("usedns no\n", "usedns no\npersourcepenaltyexemptlist 10.20.0.1,fd20::1\n", ""),
        (
            "usedns no\n",
            "usedns no\npersourcepenaltyexemptlist none\n",
            "PerSourcePenaltyExemptList none, wanted 10.20.0.1,fd20::1",
        ),
    ],
)
def test_what_the_server_does_not_hold_to_is_named(old: str, new: str, told: str) -> None:
    assert old in SSHD
    finding = server.judge_settings(SSHD.replace(old, new, 1), DATA, SITE, NODE)
    assert finding.kept is (told == "")
    assert told in finding.found


@pytest.mark.parametrize(
    ("plain", "tunnel", "kept"), [(0, 255, True), (0, 0, False), (255, 255, False), (0, -1, False)]
)
def test_a_tunnel_is_refused_only_if_the_login_works(plain: int, tunnel: int, kept: bool) -> None:
    assert server.judge_way_back(plain, tunnel).kept is kept


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"methods": ("publickey", "password")}, False),
        ({"methods": ("publickey", "keyboard-interactive")}, False),
        ({"methods": ()}, False),
        ({"taken": True}, False),
        ({"trouble": "No route to host"}, False),
    ],
)
def test_a_password_must_be_refused_untried(change: dict[str, Any], kept: bool) -> None:
    finding = greeting.judge_passwords(replace(greeting.Greeting(BANNER, ("publickey",)), **change))
    assert (finding.kept, finding.reason) == (kept, "")


@pytest.mark.parametrize(
    ("shown", "kept"), [(BANNER, True), (f"{BANNER}\r\n", True), ("Welcome", False), ("", False)]
)
def test_the_banner_is_the_sites(shown: str, kept: bool) -> None:
    assert greeting.judge_banner(greeting.Greeting(shown), BANNER).kept is kept


def test_with_nobody_outside_the_door_is_not_tried() -> None:
    assert greeting.judge_passwords(None).reason
    assert greeting.judge_banner(None, BANNER).reason


# --- the clock ---------------------------------------------------------------------------------

FREE = clock.Reading(station=1_000_000.0, offset=0.5, error=0.01)
SOURCES = "^,*,10.20.0.5,2,6,377,10,0.0001,0.0001,0.001\n===\n"
TRACKING = "0A140005,10.20.0.5,3,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.1,0.1,64.0,Normal\n"
NTP = Time("ntp", (ip_address("10.20.0.5"),))


def kept_by(units: tuple[str, ...], site: Time, chrony: str = "") -> Any:
    rows = "".join(f"{name} loaded active running x\n" for name in units)
    found = node(LISTING.replace("=== scripts", f"{rows}=== scripts"))
    return clock.judge_clock(found, site, DATA, chrony=chrony, reading=FREE, earlier=())


@pytest.mark.parametrize(
    ("units", "site", "chrony", "told"),
    [
        ((), Time(), "", ""),
        (("systemd-timesyncd.service",), Time(), "", "systemd-timesyncd.service keeps the clock"),
        (("chrony.service",), NTP, SOURCES + TRACKING, ""),
        ((), NTP, "", "chrony.service is not at work"),
        (
            ("chrony.service",),
            NTP,
            (SOURCES + TRACKING).replace("10.20.0.5,2", "192.0.2.9,2"),
            "chrony asks 192.0.2.9",
        ),
        (("chrony.service",), NTP, "===\n" + TRACKING, "chrony does not ask 10.20.0.5"),
        (
            ("chrony.service",),
            NTP,
            SOURCES + TRACKING.replace("Normal", "Not synchronised"),
            "not synchronised",
        ),
        (("appliance-ptp4l.service", "appliance-phc2sys.service"), Time("ptp"), "", ""),
        (("appliance-ptp4l.service",), Time("ptp"), "", "appliance-phc2sys.service is not at work"),
    ],
)
def test_what_keeps_the_clock_is_what_the_inventory_says(
    units: tuple[str, ...], site: Time, chrony: str, told: str
) -> None:
    finding = kept_by(units, site, chrony)
    assert finding.kept is (told == "")
    assert told in finding.found
    assert "+0.500 s (± 0.010 s) from the station's clock" in finding.found


@pytest.mark.parametrize(
    ("later", "gain"),
    [
        (clock.Reading(1_086_400.0, 1.5, 0.01), 1.0),
        (clock.Reading(1_043_200.0, 0.0, 0.01), -1.0),
        (clock.Reading(1_086_400.0, 0.515, 0.01), None),
        (clock.Reading(1_000_000.0, 9.0, 0.01), None),
    ],
)
def test_drift_is_told_only_where_the_readings_can_tell_it(
    later: clock.Reading, gain: float | None
) -> None:
    assert clock.drift(FREE, later) == (None if gain is None else pytest.approx(gain))


def test_a_drift_that_cannot_be_seen_is_bounded() -> None:
    later = clock.Reading(1_086_400.0, 0.505, 0.01)
    assert "no drift to be seen in 1.000 days (it could be 0.0 s a day at most)" in clock.spelled(
        later, [FREE]
    )
    assert "drift +1.000 s a day" in clock.spelled(replace(later, offset=1.5), [FREE])


def test_readings_are_kept_the_first_and_the_last(tmp_path: Any) -> None:
    path = tmp_path / "clock.json"
    assert clock.load_readings(path) == []
    second, third = replace(FREE, station=2e6), replace(FREE, station=3e6)
    clock.store_readings([FREE, second, third], path)
    assert clock.load_readings(path) == [FREE, third]
    path.write_text("[{}]")
    assert clock.load_readings(path) == []


def test_a_tunnel_may_lead_to_every_teams_server_and_nowhere_else() -> None:
    teams = (Team("one", 8001, (0,)), Team("two", 8002, (1,)))
    divided = replace(NODE, partition=Partition("h100-sxm", ((), ()), teams))
    ports = "127.0.0.1:8001 localhost:8001 127.0.0.1:8002 localhost:8002"
    line = next(each for each in SSHD.splitlines() if each.startswith("permitopen "))
    assert f"wanted {ports}" in server.judge_settings(SSHD, DATA, SITE, divided).found
    assert server.judge_settings(SSHD.replace(line, f"permitopen {ports}"), DATA, SITE, divided).kept
