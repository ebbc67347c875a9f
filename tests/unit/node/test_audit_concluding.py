"""What the facts of a node come to: nothing if it is as it was installed; of one change, one drift.

What the node's own programs say was recorded on a qualified practice node, or follows from the role's data.
"""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from appliance.definition.inventory import (
    Interface,
    Inventory,
    Management,
    Match,
    NodeEntry,
    Ssh,
    settings_digest,
)
from appliance.node.audit.asking import Facts
from appliance.node.audit.baseline import Baseline, Reference, baseline_bytes, declared_digest, digest_of
from appliance.node.audit.concluding import conclude
from appliance.node.audit.declared import CAUSES, judge_offset
from appliance.node.audit.drift import SUBJECTS, NodeAudit
from appliance.node.audit.state import state_of
from appliance.node.host_data import load_host_data, patterns
from appliance.node.qualification.clock import Reading
from tests.unit.node.stored import DATA as VOLUME
from tests.unit.node.stored import MOUNTS, PARTS, listing, swapped

RECORDED = Path(__file__).with_name("recorded")
DATA = load_host_data()
MANAGEMENT = Management(
    networks=(ip_network("10.77.1.0/29"), ip_network("fd77:1::/124")),
    operator=(ip_address("10.77.1.1"),),
    foreign=(),
)
CARD = Interface(
    "mgmt", Match(mac="02:00:0a:4d:01:0b"), tuple(map(ip_interface, ("10.77.1.11/24", "fd77:1::11/64")))
)
NODE = NodeEntry("apq-01", "ssh", ip_address("10.77.1.11"), 22, (CARD,), disks=(VOLUME,))
SITE = Inventory(Path("inventory.yml"), "clinic", MANAGEMENT, None, (NODE,))
BUNDLE, MARK = "b" * 64, "c" * 64


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


SSHD = "".join(
    f"{entry.what[0].lower()} {entry.value.replace('prohibit-password', 'without-password')}\n"
    for entry in DATA.ssh
    if entry.what[0] not in {"PermitOpen", "Ciphers", "MACs", "KexAlgorithms", "PerSourcePenaltyExemptList"}
)
UNITS = """\
appliance-inference.service enabled enabled
apt-daily.timer masked enabled
ssh.service enabled enabled
=== units
appliance-inference.service loaded active running The model
ssh.service loaded active running OpenBSD Secure Shell server
=== scripts
"""
SAID = {
    "rules": "table ip filter {\n\tchain OUTPUT {\n\t\tpolicy drop;\n\t}\n}\n",
    "listening": recorded("sockets.txt"),
    "units": UNITS,
    "service": recorded("service.txt"),
    "addresses": recorded("addresses.json"),
    "cards": "",
    "routes": recorded("routes.txt"),
    "autoconfiguration": recorded("autoconfiguration.txt"),
    "name servers": "",
    "forwarding": "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\n",
    "filter4": recorded("iptables-save.txt"),
    "filter6": recorded("ip6tables-save.txt"),
    "tables": json.dumps(
        {"nftables": [{"rule": {"family": name, "table": "filter"}} for name in ("ip", "ip6")]}
    ),
    "order": "Id=ufw.service\nBefore=network-pre.target\nWants=network-pre.target\n\n"
    "Id=systemd-networkd.service\nAfter=network-pre.target\n",
    "kept": recorded("ufw.txt"),
    "kernel": "".join(f"{entry.what[0]}={entry.value}\n" for entry in DATA.kernel),
    "modules": "=== configuration\n"
    + "".join(f"install {name} /bin/false\n" for name in patterns(DATA.modules_off)),
    "lock": "0",
    "audit": "active\n" + "".join(f"{rule}\n" for rule in patterns(DATA.audit)),
    "sshd": SSHD + "permitopen 127.0.0.1:8000 localhost:8000\nciphers aes256-ctr\nmacs hmac-sha2-512\n"
    "kexalgorithms curve25519-sha256\n"
    f"persourcepenaltyexemptlist {','.join(map(str, MANAGEMENT.operator))}\n",
    "chrony": "",
    "pending": "ready\n",
    "storage": listing(),
    "daily audit": "Id=appliance-audit.timer\nLoadState=not-found\n\n"
    "Id=appliance-audit.service\nLoadState=not-found\n",
}
FACTS = Facts(
    said={name: (0, text) for name, text in SAID.items()},
    host={
        "users": {"root": "uid 0"},
        "packages": {"bash": "5.2, install, installed"},
        "mounts": {"/": "ext4"},
        "kernel": {"release": "6.12"},
        "modules": {"nvme": "loaded"},
        "drives": {"X, serial 1": "1 bytes"},
    },
    files={"/etc/ssh/sshd_config": "file, mode 0644", "/etc/hosts": "file, mode 0644"},
    container="",
    installed={"digest": BUNDLE, "settings": settings_digest(SITE, NODE), "toolkit": "1.0"},
    staged={"list": BUNDLE, "mark": MARK, "files": 9, "wrong": {}},
    reading=Reading(1e9, 0.2, 0.1),
)
BASELINE = Baseline(
    "apq-01",
    BUNDLE,
    settings_digest(SITE, NODE),
    declared_digest(SITE, NODE),
    "1.0",
    "2026-11-29T12:00:00Z",
    "",
    MARK,
    state_of(FACTS),
)
DIGEST = digest_of(baseline_bytes(BASELINE))
REFERENCE = Reference("station", BASELINE, DIGEST, DIGEST)


def live(**changes: Any) -> Facts:
    """The node as it was installed, with these facts changed; ``said``: texts by name of the command."""
    said = {**FACTS.said, **{name: (0, text) for name, text in changes.pop("said", {}).items()}}
    known = {**(FACTS.installed or {}), "baseline": DIGEST, **changes.pop("installed", {})}
    return replace(FACTS, **{"said": said, "installed": known, "baseline": DIGEST, **changes})


def concluded(facts: Facts, reference: Reference = REFERENCE, node: NodeEntry = NODE) -> NodeAudit:
    return conclude(facts, reference, SITE, node, DATA)


def told(audit: NodeAudit) -> list[tuple[str, str]]:
    return [(each.subject, each.what) for each in audit.drifts]


def test_a_node_as_it_was_installed_has_no_drift() -> None:
    audit = concluded(live())
    assert audit.drifts == ()
    assert (audit.source, audit.baseline, audit.taken) == ("station", DIGEST, "2026-11-29T12:00:00Z")
    assert {"rules", "listeners", "units", "users", "packages", "files", "mounts"} <= audit.compared.keys()
    assert {"kernel", "modules", "drives", "staged", "promises"} <= audit.compared.keys()
    assert [each.what for each in audit.not_compared] == ["quiet.module-lock"], "the site leaves it open"


def replaced(name: str, old: str, new: str) -> dict[str, str]:
    assert old in SAID[name]
    return {name: SAID[name].replace(old, new, 1)}


def stored(**changed: str) -> dict[str, str]:
    return {"storage": listing(**changed)}


TABLE = PARTS["crypttab"]
ROUTER_SEEN = replaced("autoconfiguration", "ra=0", "ra=1")
FORWARDING = replaced("forwarding", "ip_forward = 0", "ip_forward = 1")
PASSWORDS = replaced("sshd", "passwordauthentication no", "passwordauthentication yes")
PRIVILEGES = replaced("service", "NoNewPrivs:\t1", "NoNewPrivs:\t0")
TIMER_ON = replaced("daily audit", "not-found", "loaded")
OTHER_MODEL = replaced("service", "--model\n", "--model\n/tmp/x\n--more\n")
ROUTE = '[{"dst":"default","gateway":"10.77.1.1","dev":"host0"}]\n'


@pytest.mark.parametrize(
    ("changes", "drift"),
    [
        ({"said": {"routes": ROUTE + SAID["routes"]}}, ("routes", "network.no-route-out")),
        ({"said": replaced("addresses", '"10.77.1.11"', '"10.77.1.12"')}, ("routes", "network.addresses")),
        ({"said": ROUTER_SEEN}, ("routes", "network.no-autoconfiguration")),
        ({"said": {"name servers": "nameserver 10.77.1.1\n"}}, ("routes", "network.no-name-server")),
        ({"said": FORWARDING}, ("routes", "network.no-forwarding")),
        ({"said": replaced("order", "After=network-pre.target", "")}, ("rules", "firewall.before-network")),
        ({"said": replaced("kept", "UNIT=enabled", "UNIT=disabled")}, ("rules", "firewall.stays")),
        ({"said": replaced("filter4", ":OUTPUT DROP", ":OUTPUT ACCEPT")}, ("rules", "firewall.policies")),
        ({"said": replaced("kernel", "kernel.sysrq=0", "kernel.sysrq=1")}, ("host", "quiet.kernel")),
        ({"said": replaced("modules", "install usb_storage /bin/false", "")}, ("host", "quiet.modules")),
        ({"said": replaced("audit", "active", "inactive")}, ("host", "quiet.audit")),
        ({"said": PASSWORDS}, ("host", "quiet.ssh-settings")),
        ({"said": {"pending": "ready\npending\n"}}, ("installed", "installed.confirmed")),
        ({"said": stored(swaps=swapped("/dev/sda2 partition"))}, ("storage", "storage.swap")),
        ({"said": stored(mounts=MOUNTS.replace(" /tmp", " /t"))}, ("storage", "storage.temporary")),
        ({"said": stored(pattern="core")}, ("storage", "storage.dumps")),
        ({"said": stored(sleep="static")}, ("storage", "storage.hibernation")),
        ({"said": stored(mounts=MOUNTS.replace("/srv/more rw", "/m rw"))}, ("storage", "storage.mounted")),
        ({"said": stored(crypttab=TABLE.replace("none", "/key"))}, ("storage", "storage.opening")),
        ({"said": stored(luks__nvme0n1="")}, ("storage", "storage.opening")),
        ({"said": TIMER_ON}, ("units", "installed.daily-audit")),
        ({"said": PRIVILEGES}, ("service", "inference.confined")),
        ({"said": OTHER_MODEL}, ("service", "command line")),
        ({"reading": Reading(1e9, 400, 1)}, ("time", "the clock")),
        ({"container": "lxc"}, ("reference", "what the node runs in")),
        ({"baseline": "f" * 64}, ("reference", "baseline.json")),
        ({"baseline": None}, ("reference", "baseline.json")),
        ({"installed": {"baseline": "f" * 64}}, ("reference", "installed.json")),
        ({"installed": {"digest": "f" * 64}}, ("installed", "installed.json: digest")),
        ({"installed": {"toolkit": "0.9"}}, ("installed", "installed.json: toolkit")),
        ({"staged": {**(FACTS.staged or {}), "list": "f" * 64}}, ("staged", "trust/SHA256SUMS")),
        ({"staged": {**(FACTS.staged or {}), "mark": "f" * 64}}, ("staged", "the mark of completeness")),
        ({"staged": {**(FACTS.staged or {}), "mark": None}}, ("staged", "the mark of completeness")),
        ({"staged": {**(FACTS.staged or {}), "wrong": {"a": ["mode 0644", "x"]}}}, ("staged", "a")),
        ({"staged": None}, ("staged", BUNDLE)),
        ({"files": {**FACTS.files, "/usr/bin/new": "file"}}, ("files", "/usr/bin/new")),
    ],
)  # fmt: skip
def test_one_change_is_one_drift(changes: dict[str, Any], drift: tuple[str, str]) -> None:
    audit = concluded(live(**changes))
    assert drift in told(audit)
    assert {subject for subject, _ in told(audit)} == {drift[0]}
    assert len(audit.drifts) == (2 if drift[1] == "firewall.policies" else 1), (
        "an open policy is also a way out"
    )


def test_a_promise_is_told_with_the_drift_that_breaks_it() -> None:
    files = {**FACTS.files, "/etc/ssh/sshd_config": "file, mode 0644, x", "/etc/hosts": "file, mode 0666"}
    audit = concluded(live(said=PASSWORDS, files=files))
    hosts, sshd = audit.drifts
    assert (hosts.what, hosts.breaks) == ("/etc/hosts", ())
    assert sshd.what == "/etc/ssh/sshd_config"
    assert sshd.breaks == ("quiet.ssh-settings: PasswordAuthentication yes, wanted no",)


def test_a_stopped_service_is_one_drift_with_what_it_breaks() -> None:
    units = UNITS.replace(
        "appliance-inference.service loaded active", "appliance-inference.service loaded inactive"
    )
    stopped = "ActiveState=inactive\nLoadState=loaded\nSubState=dead\nUnitFileState=enabled\nMainPID=0\n"
    audit = concluded(live(said={"units": units, "service": stopped}))
    assert told(audit) == [("units", "appliance-inference.service")]
    assert audit.drifts[0].breaks[0].startswith("inference.active: ")


def test_swap_that_came_is_told_once_with_what_it_breaks() -> None:
    host = {**FACTS.host, "mounts": {"/": "ext4", "swap /dev/sda2": "partition"}}
    audit = concluded(live(said=stored(swaps=swapped("/dev/sda2 partition")), host=host))
    assert told(audit) == [("mounts", "swap /dev/sda2")]
    assert audit.drifts[0].breaks == ("storage.swap: /dev/sda2: in the clear",)


def test_a_node_without_encrypted_drives_promises_nothing_of_them() -> None:
    node = replace(NODE, disks=())
    closed = {"storage": listing(devices="", mounts=MOUNTS, crypttab="")}
    audit = conclude(live(said=closed), Reference("none"), SITE, node, DATA)
    assert not any(what.startswith(("storage.mounted", "storage.opening")) for _, what in told(audit))


def test_what_explains_a_promise_is_a_subject() -> None:
    causes = [cause for each in CAUSES.values() for cause in each]
    assert {cause.split()[0] for cause in causes} <= SUBJECTS.keys()


def test_a_program_that_fails_is_a_drift_and_not_a_silence() -> None:
    facts = live()
    facts.said["routes"] = (127, "ip: not found")
    facts.said["rules"] = (1, "nft: no")
    audit = concluded(facts)
    assert told(audit) == [("routes", "network.no-route-out"), ("rules", "all of it")]
    assert "ip: not found" in audit.drifts[0].found


def test_changed_settings_of_the_inventory_are_told() -> None:
    audit = conclude(live(), REFERENCE, replace(SITE, inference_port=8001), NODE, DATA)
    assert ("installed", "the inventory") in told(audit)
    assert ("host", "quiet.ssh-settings") in told(audit), "the node has what was declared before"


def test_who_logs_in_is_no_setting_of_the_node() -> None:
    """At the node's console nobody does."""
    by_ssh = replace(SITE, ssh=Ssh("operator", None, Path("known_hosts")))
    assert settings_digest(by_ssh, NODE) != settings_digest(SITE, NODE)
    assert conclude(live(), REFERENCE, by_ssh, NODE, DATA).drifts == ()


def test_without_a_baseline_nothing_is_called_right() -> None:
    audit = concluded(live(installed={}), Reference("none"))
    assert told(audit) == [("reference", "the baseline")]
    assert audit.compared == {"promises": audit.compared["promises"]}


def test_on_a_container_what_its_host_decides_is_named() -> None:
    host = {**FACTS.host, "kernel": {"release": "7"}, "drives": {}, "modules": {"x": "loaded"}}
    facts = live(container="systemd-nspawn", host=host, said=replaced("kernel", "sysrq=0", "sysrq=1"))
    reference = replace(REFERENCE, baseline=replace(BASELINE, container="systemd-nspawn"))
    audit = concluded(facts, reference)
    assert audit.drifts == ()
    named = {each.what for each in audit.not_compared}
    assert named == {"kernel", "modules", "drives", "quiet.kernel", "quiet.module-lock"}
    assert not {"kernel", "modules", "drives"} & audit.compared.keys()


def test_a_node_that_calls_itself_a_container_now_hides_nothing_by_it() -> None:
    host = {**FACTS.host, "kernel": {"release": "7"}}
    audit = concluded(live(container="lxc", host=host))
    assert told(audit) == [("reference", "what the node runs in"), ("kernel", "release")]


@pytest.mark.parametrize(
    ("offset", "error", "kept"), [(299, 0, True), (-301, 0, False), (305, 10, True), (320, 10, False)]
)
def test_a_clock_is_wrong_where_no_error_of_the_reading_explains_it(
    offset: float, error: float, kept: bool
) -> None:
    assert judge_offset(Reading(0, offset, error)).kept is kept


def test_a_node_that_audits_itself_has_no_other_clock() -> None:
    facts = live(reading=Reading(1e9, 999, 0))
    assert told(concluded(facts)) == [("time", "the clock")]
    assert told(concluded(facts, node=replace(NODE, connection="local"))) == []
