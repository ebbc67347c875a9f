"""Two states of a node, compared: one thing changed is one drift, told with what differs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest

from appliance.definition.host import Host
from appliance.node.audit.comparing import Quiet, compare, not_compared, what_is_quiet
from appliance.node.audit.drift import SUBJECTS, Drift
from appliance.node.audit.state import listeners, rules, service, units
from appliance.node.host_data import load_host_data

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.node.audit.state import State

SHA = {letter: letter * 64 for letter in "abc"}
QUIET = Quiet(("systemd-hostnamed.*", "apt-daily.timer"), frozenset({"tcp_diag"}))

#: As nft writes it: a tab before what is in a table, two before what is in a chain.
FILTER = """\
table ip filter {
\tchain ufw-user-output {
\t\toifname "host0" ip daddr 10.20.0.5 udp dport 123 accept
\t\tip protocol tcp reject
\t}

\tchain OUTPUT {
\t\ttype filter hook output priority filter; policy drop;
\t\tjump ufw-user-output
\t}
}
"""
LISTING = """\
ssh.service enabled enabled
spy.service disabled enabled
apt-daily.timer masked enabled
systemd-hostnamed.service static -
e2scrub_reap.service enabled enabled
netplan-ovs.service generated -
=== units
ssh.service loaded active running OpenBSD Secure Shell server
systemd-journald.service loaded active running Journal Service
e2scrub_reap.service loaded inactive dead Remove Stale Online ext4 Metadata Check Snapshots
run-u7.service loaded active running [systemd-run] /bin/true
nothing.mount not-found inactive dead nothing.mount
=== scripts
/etc/cron.daily/dpkg
"""
THEN: State = {
    "rules": rules(FILTER),
    "listeners": {"tcp 0.0.0.0 port 22": "sshd", "tcp 127.0.0.1 port 8000": "python3"},
    "units": units(LISTING),
    "users": {
        "root": "uid 0, gid 0, home /root, shell /bin/bash, no password",
        "group sudo": "gid 27, members none",
    },
    "packages": {"bash": "5.2.37-2+b5, install, installed", "ufw": "0.36.2-9, install, installed"},
    "files": {
        "/usr/bin/bash": f"file, of bash, mode 0755, owner 0:0, SHA-256 {SHA['a']}",
        "/usr/sbin/ufw": f"file, of ufw, mode 0755, owner 0:0, SHA-256 {SHA['b']}",
        "/etc/hosts": f"file, mode 0644, owner 0:0, SHA-256 {SHA['c']}",
        "/etc/localtime": "link, to /usr/share/zoneinfo/Etc/UTC",
    },
    "mounts": {"/": "ext4, of /dev/nvme0n1p2, relatime rw"},
    "kernel": {"release": "6.12.57+deb13-amd64"},
    "modules": {"nvme": "loaded"},
    "drives": {"QEMU NVMe Ctrl, serial lab-1": "8589934592 bytes, fixed"},
    "service": {"command line": "python3 serve.py --model /m"},
}  # fmt: skip


def changed(change: Callable[[State], object], *, container: str = "") -> list[Drift]:
    now = copy.deepcopy(THEN)
    change(now)
    return compare(THEN, now, quiet=QUIET, container=container)


def unit(name: str, state: str) -> list[Drift]:
    return changed(lambda now: now["units"].update({name: state}))


def test_what_is_the_same_is_no_drift() -> None:
    assert changed(lambda _: None) == []


@pytest.mark.parametrize("subject", [name for name in THEN if name not in {"service", "modules"}])
def test_whatever_is_gone_is_a_drift_of_its_subject(subject: str) -> None:
    """The service's command line is told by its unit, where it does not run."""
    for what in THEN[subject]:
        if subject == "units" and what not in {"ssh.service", "systemd-journald.service"}:
            continue
        found = changed(lambda now: now[subject].pop(what))  # noqa: B023 - used at once
        assert [(each.subject, each.what) for each in found] == [(subject, what)]
        assert found[0].found in {"not there", "no file, inactive"}


@pytest.mark.parametrize("subject", [name for name in THEN if name not in {"service", "units", "modules"}])
def test_whatever_is_new_is_a_drift_of_its_subject(subject: str) -> None:
    found = changed(lambda now: now[subject].update(new="something"))
    assert found == [Drift(subject, "new", "something", "not there")]


def test_a_subject_that_the_node_cannot_tell_is_a_drift() -> None:
    (drift,) = changed(lambda now: now.pop("rules"))
    assert (drift.subject, drift.found) == ("rules", "the node cannot tell")


def test_drifts_come_in_the_order_of_subjects_each_with_what_to_do() -> None:
    def change(now: State) -> None:
        for subject in ("drives", "mounts", "users", "rules"):
            now[subject].clear()

    found = [each.subject for each in changed(change)]
    assert list(dict.fromkeys(found)) == ["rules", "users", "mounts", "drives"]
    assert all(SUBJECTS.values())


def test_of_a_long_description_only_what_differs_is_told() -> None:
    def change(now: State) -> None:
        now["files"]["/usr/bin/bash"] = now["files"]["/usr/bin/bash"].replace("0755", "4755")
        now["users"]["root"] = now["users"]["root"].replace("/bin/bash", "/bin/sh")

    assert changed(change) == [
        Drift("users", "root", "shell /bin/sh", "shell /bin/bash"),
        Drift("files", "/usr/bin/bash", "mode 4755", "mode 0755"),
    ]


def test_a_container_is_not_blamed_for_its_host() -> None:
    def change(now: State) -> None:
        now["kernel"]["release"], now["modules"]["usb_storage"], now["drives"]["stick"] = "7", "loaded", "1"
        now["mounts"]["/tmp"] = "tmpfs, of tmpfs, writable"

    assert {each.subject for each in changed(change)} == {"kernel", "modules", "drives", "mounts"}
    assert changed(change, container="systemd-nspawn") == []
    mounted = {**THEN, "mounts": {"/tmp": "tmpfs"}}
    named = {each.what for each in not_compared(mounted, "systemd-nspawn")}
    assert named == {"kernel", "modules", "drives", "the mount of /tmp"}
    (drift,) = changed(lambda now: now["mounts"].update({"/mnt": "tmpfs"}), container="systemd-nspawn")
    assert drift.what == "/mnt"
    assert not_compared(THEN, "") == []


def test_what_the_baseline_does_not_know_is_said() -> None:
    then = {name: entries for name, entries in THEN.items() if name != "units"}
    assert [each.what for each in not_compared(then, "")] == ["units"]


# --- the filter ------------------------------------------------------------------------------------


def test_a_rule_more_is_told_with_its_chain() -> None:
    more = FILTER.replace(
        "\t\tip protocol tcp reject\n", "\t\ttcp dport 443 accept\n\t\tip protocol tcp reject\n"
    )
    (drift,) = changed(lambda now: now.update(rules=rules(more)))
    assert drift == Drift("rules", "ip filter chain ufw-user-output", "tcp dport 443 accept", "not there")


def test_the_order_of_rules_counts() -> None:
    lines = FILTER.splitlines(keepends=True)
    lines[2:4] = lines[3:1:-1]
    found = changed(lambda now: now.update(rules=rules("".join(lines))))
    assert {each.what for each in found} == {"ip filter chain ufw-user-output"}


def test_the_order_of_chains_does_not_count() -> None:
    lines = FILTER.splitlines(keepends=True)
    other = [lines[0], *lines[6:10], "\n", *lines[1:5], lines[10]]
    assert changed(lambda now: now.update(rules=rules("".join(other)))) == []


def test_an_open_policy_is_told() -> None:
    opened = FILTER.replace("policy drop", "policy accept")
    (drift,) = changed(lambda now: now.update(rules=rules(opened)))
    assert "policy accept" in drift.found
    assert "policy drop" in drift.wanted


NAT = "table ip nat {\n\tchain OUTPUT {\n\t\ttype nat hook output priority 0; policy accept;\n\t}\n}\n"


def test_another_table_is_told_once_it_does_something() -> None:
    assert changed(lambda now: now.update(rules=rules(FILTER + NAT + "table inet mine {\n}\n"))) == []
    dropping = NAT.replace("policy accept", "policy drop")
    translating = NAT.replace("accept;\n", "accept;\n\t\tredirect to :8000\n")
    for text in (dropping, translating):
        found = changed(lambda now: now.update(rules=rules(FILTER + text)))  # noqa: B023 - used at once
        assert [each.what for each in found] == ["ip nat", "ip nat chain OUTPUT"]
    saved = "*nat\n:OUTPUT ACCEPT [1:2]\nCOMMIT\n"
    assert rules(saved) == {}
    assert rules(saved.replace("COMMIT", "-A OUTPUT -j DNAT\nCOMMIT"))


def test_rules_of_iptables_alone_are_compared_without_their_counters() -> None:
    saved = "# Generated\n*filter\n:OUTPUT DROP [7:420]\n-A OUTPUT -o lo -j ACCEPT\nCOMMIT\n"
    later = saved.replace("[7:420]", "[9:540]").replace("# Generated", "# Generated later")
    assert rules(saved) == rules(later)
    assert rules(saved)["filter chain OUTPUT"] == "policy DROP\n-A OUTPUT -o lo -j ACCEPT"
    assert rules(saved) != rules(saved.replace("-o lo", "-o eth0"))
    assert rules(saved) != rules(saved.replace("OUTPUT DROP", "OUTPUT ACCEPT"))


# --- units -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state", "counts"),
    [
        ("ssh.service", "enabled, inactive", True),
        ("ssh.service", "enabled, failed", True),
        ("ssh.service", "disabled, active", True),
        ("apt-daily.timer", "enabled, active", True),  # quiet or not: its file's state is another
        ("apt-daily.timer", "masked, failed", False),  # nothing can start it
        ("spy.service", "enabled, inactive", True),
        ("spy.service", "disabled, active", True),
        ("new.service", "enabled, inactive", True),
        ("new.service", "no file, active", True),
        ("new.service", "transient, active", True),
        ("systemd-journald.service", "no file, inactive", True),
        # What comes and goes as others ask for it.
        ("systemd-hostnamed.service", "static, active", False),
        ("run-u7.service", "no file, inactive", False),
        ("e2scrub_reap.service", "enabled, inactive", False),
        ("e2scrub_reap.service", "enabled, failed", True),
        ("netplan-ovs.service", "no file, inactive", False),
        ("new.service", "static, inactive", False),  # told as a file
        ("systemd-hostnamed.service", "static, failed", True),
        ("appliance-audit.service", "static, failed", False),  # says that something differs, which is told
        ("appliance-audit.timer", "enabled, failed", True),
    ],
)
def test_of_a_unit_counts_what_cannot_come_and_go_by_itself(name: str, state: str, counts: bool) -> None:
    found = unit(name, state)
    assert [each.what for each in found] == ([name] if counts else [])


def test_units_are_taken_from_both_listings() -> None:
    assert THEN["units"]["ssh.service"] == "enabled, active"
    assert THEN["units"]["run-u7.service"] == "no file, active"
    assert "nothing.mount" not in THEN["units"]
    failed = LISTING.replace("ssh.service loaded active running", "ssh.service loaded failed failed")
    assert units(failed)["ssh.service"] == "enabled, failed"


def test_of_modules_count_those_that_came_and_that_nobody_expects() -> None:
    assert changed(lambda now: now["modules"].clear()) == []
    assert changed(lambda now: now["modules"].update(tcp_diag="loaded")) == []
    found = changed(lambda now: now["modules"].update(usb_storage="loaded"))
    assert found == [Drift("modules", "usb_storage", "loaded", "not there")]


def test_what_is_quiet_follows_from_role_and_site() -> None:
    quiet = what_is_quiet(load_host_data(), Host(known_units={"agent.service": "the site's own"}))
    assert {"agent.service", "user@*.service"} <= set(quiet.units)
    assert "tcp_diag" in quiet.modules
    assert not [name for name in quiet.modules if "-" in name]


# --- packages and files ----------------------------------------------------------------------------


def test_a_package_stands_for_its_files() -> None:
    def gone(now: State) -> None:
        now["packages"].pop("ufw")
        now["files"].pop("/usr/sbin/ufw")

    assert changed(gone) == [
        Drift("packages", "ufw", "not there; 1 of its files differ", "0.36.2-9, install, installed")
    ]

    def other(now: State) -> None:
        now["packages"]["bash"] = "5.3-1, install, installed"
        now["files"]["/usr/bin/bash"] = now["files"]["/usr/bin/bash"].replace(SHA["a"], SHA["b"])
        now["files"]["/etc/hosts"] = "file, mode 0666, owner 0:0, SHA-256 " + SHA["c"]

    assert [(each.what, each.found) for each in changed(other)] == [
        ("bash", "5.3-1; 1 of its files differ"),
        ("/etc/hosts", "mode 0666"),
    ]


WANTS = "/etc/systemd/system/multi-user.target.wants"


@pytest.mark.parametrize(
    ("path", "how", "told"),
    [
        (f"{WANTS}/spy.service", "link, to /etc/systemd/system/spy.service", False),
        ("/etc/systemd/system/spy.service", "link, to /dev/null", False),
        ("/etc/systemd/system/spy.service", "file, mode 0644", True),
        (f"{WANTS}/other.service", "link, to /etc/systemd/system/other.service", True),
        ("/usr/bin/spy.service", "link, to /tmp/x", True),
    ],
)
def test_a_unit_stands_for_the_links_that_enable_it(path: str, how: str, told: bool) -> None:
    def change(now: State) -> None:
        now["units"]["spy.service"] = "enabled, inactive"
        now["files"][path] = how

    expected = [("units", "spy.service"), *([("files", path)] if told else [])]
    assert [(each.subject, each.what) for each in changed(change)] == expected


def test_a_link_that_enables_is_told_where_its_unit_is_not() -> None:
    (drift,) = changed(lambda now: now["files"].update({f"{WANTS}/spy.service": "link, to /x"}))
    assert drift.subject == "files"


def test_a_link_cannot_pass_for_a_file_of_a_package() -> None:
    """Its target is whatever somebody wrote."""

    def change(now: State) -> None:
        now["packages"].pop("ufw")
        now["files"]["/etc/evil"] = "link, to /tmp/x, of ufw"

    assert [each.what for each in changed(change)] == ["ufw", "/etc/evil"]


# --- what states are made of -----------------------------------------------------------------------


def test_sockets_are_told_by_address_port_and_program_without_process_numbers() -> None:
    text = (
        'tcp   LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=210,fd=3))\n'
        'tcp   LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=210,fd=4),("systemd",pid=1,fd=9))\n'
        "udp   UNCONN 0 0 127.0.0.1:323 0.0.0.0:*\n"
    )
    assert listeners(text) == {
        "tcp 0.0.0.0 port 22": "sshd",
        "tcp :: port 22": "sshd systemd",
        "udp 127.0.0.1 port 323": "the kernel",
    }


def test_the_service_is_told_by_what_it_was_started_with() -> None:
    live = "MainPID=7\n=== status\nUid:\t1\n=== pids\n7\n=== environment\nA=b\n=== command\na\nb c\n"
    assert service(live) == {"command line": "a 'b c'"}
    assert service("MainPID=0\n") == {}
    assert [each.found for each in changed(lambda now: now["service"].update({"command line": "sh"}))] == [
        "sh"
    ]
    assert changed(lambda now: now["service"].clear()) == []
