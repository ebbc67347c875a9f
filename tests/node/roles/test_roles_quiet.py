"""The role ``quiet_host`` on a fresh node: check, apply, apply again, and what the node no longer does."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.node.host_data import load_host_data, patterns

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

ROLES = ("base", "revert", "network_isolation", "quiet_host", "firewall")
PACKAGES = ["ufw", "nftables", "netplan.io", "openssh-server", "python3", "kmod"]

#: Everything a run could change on the node, each as one text.
STATE = {
    "files": (
        "find /etc /usr/local /var/lib/appliance -path /var/lib/appliance/staged -prune"
        " -o -printf '%p %M %U:%G %l\\n' | sort; find /etc /usr/local -type f -exec sha256sum {} + | sort"
    ),
    # Timers alone are listed by what they do: services and sessions come and go after a boot.
    "units": (
        "systemctl list-unit-files --no-legend | grep -v transient;"
        " systemctl list-units --type=timer --all --no-legend --plain | sort"
    ),
    "settings": f"sysctl {' '.join(patterns(load_host_data().kernel))} 2>/dev/null; true",
    "tmp": "findmnt -no OPTIONS /tmp",
}

FILES = "Have what keeps programs quiet, cores unwritten and people warned"
UNITS = "Stop what phones home, and tell what nobody has judged"
SSH = "Harden the SSH server with what the real sshd accepts"
CONFIRM = "Confirm the change over a fresh connection"


def state(node: Any) -> dict[str, str]:
    return {name: node.inside(command).stdout for name, command in STATE.items()}


@dataclass
class History:
    """What happened to the module's node, in order."""

    lab: Any
    site: Any
    before: dict[str, str]
    check: Any
    after_check: dict[str, str]
    apply: Any
    again: Any
    check_again: Any


@pytest.fixture(scope="module")
def history(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> History:
    lab, site = fresh_lab, new_site(fresh_lab)
    site.components["system"]["packages"] = PACKAGES
    before = state(lab.node)
    check = site.play(check=True, tags=ROLES)  # before anything is staged: the node is clean
    after_check = state(lab.node)
    stage(lab.node)
    apply = site.play(tags=ROLES)
    again, check_again = site.play(tags=ROLES), site.play(check=True, tags=ROLES)
    return History(lab, site, before, check, after_check, apply, again, check_again)


def test_check_on_a_clean_node_succeeds_and_tells_what_would_change(history: History) -> None:
    assert history.check.failed == {}, history.check.log
    assert {FILES, UNITS, SSH} <= set(history.check.changed)


def test_check_on_a_clean_node_changes_nothing(history: History) -> None:
    for name, text in history.before.items():
        assert history.after_check[name] == text, name


def test_apply_succeeds(history: History) -> None:
    assert history.apply.failed == {}, history.apply.log
    assert {FILES, UNITS, SSH} <= set(history.apply.changed)


def test_a_second_run_changes_nothing(history: History) -> None:
    assert history.again.failed == {}, history.again.log
    assert history.again.changed == [], history.again.log
    assert history.check_again.changed == [], history.check_again.log


def test_every_unit_of_a_plain_debian_has_been_judged(history: History) -> None:
    warnings = [warning for event in history.apply.events for warning in event.get("warnings", ())]
    assert [warning for warning in warnings if "nobody has judged" in warning] == []


# --- what the node no longer does --------------------------------------------------------------


def test_a_stopped_timer_does_not_start_when_it_is_asked_for(history: History) -> None:
    done = history.lab.node.inside("systemctl start apt-daily.timer", check=False)
    assert done.returncode != 0
    shown = history.lab.node.inside(
        "systemctl show -p ActiveState -p NextElapseUSecRealtime apt-daily.timer"
    )
    assert shown.stdout.split() == ["NextElapseUSecRealtime=", "ActiveState=inactive"]


def test_a_timer_that_comes_back_is_stopped_again(history: History) -> None:
    both = "apt-daily.timer apt-daily.service"
    history.lab.node.inside(f"systemctl unmask {both}; systemctl enable --now apt-daily.timer")
    assert history.site.play(check=True, tags=ROLES).changed == [UNITS]
    again = history.site.play(tags=ROLES)
    assert (again.failed, again.changed) == ({}, [UNITS]), again.log
    assert history.lab.node.inside("systemctl is-enabled apt-daily.timer", check=False).stdout == "masked\n"


def warnings(run: Any) -> list[str]:
    return [warning for event in run.events for warning in event.get("warnings", ())]


def test_a_stranger_is_named_and_left_alone_until_the_site_vouches_for_it(history: History) -> None:
    node = history.lab.node
    node.inside(
        "printf '[Service]\\nExecStart=sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n'"
        " > /etc/systemd/system/spy.service; systemctl enable --now spy.service"
    )
    try:
        told = history.site.play(tags=ROLES)
        assert (told.failed, told.changed) == ({}, []), told.log
        assert [text for text in warnings(told) if text.startswith("spy.service starts by itself")]
        host = {**history.site.site["host"], "known_units": {"spy.*": "counts sheep for the site"}}
        vouched = replace(history.site, site={**history.site.site, "host": host}).play(tags=ROLES)
        assert not [text for text in warnings(vouched) if "spy" in text]
    finally:
        node.inside("systemctl disable --now spy.service; rm /etc/systemd/system/spy.service")


# --- the SSH server ----------------------------------------------------------------------------

SETTINGS = "/etc/ssh/sshd_config.d/00-appliance.conf"


def test_a_setting_that_sshd_does_not_know_is_refused_before_it_is_written(history: History) -> None:
    node = history.lab.node
    before = node.inside(f"cat {SETTINGS}; systemctl show -p MainPID ssh").stdout
    done = history.site.play(tags=ROLES, quiet_host_ssh_more={"NoSuchKeyword": "yes"})
    assert set(done.failed) == {SSH}, done.log
    assert "Bad configuration option: NoSuchKeyword" in done.failed[SSH]
    assert node.inside(f"cat {SETTINGS}; systemctl show -p MainPID ssh").stdout == before
    assert json.loads(node.inside("appliance-revert status").stdout)["pending"] is False
    assert node.run("true", check=False).returncode == 0


def test_a_file_that_would_overrule_ours_is_named(history: History) -> None:
    node = history.lab.node
    node.inside("echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-aaa.conf")
    try:
        done = history.site.play(tags=ROLES)
    finally:
        node.inside("rm /etc/ssh/sshd_config.d/00-aaa.conf")
    assert "PasswordAuthentication would be yes, not no" in done.failed[SSH], done.log


def test_settings_that_keep_everybody_out_undo_themselves(history: History) -> None:
    """Sshd accepts them; the fresh connection that would confirm them does not come."""
    node = history.lab.node
    before = node.inside(f"cat {SETTINGS}").stdout
    site = replace(history.site, site={**history.site.site, "revert_after": 20})
    done = site.play(tags=ROLES, quiet_host_ssh_more={"DenyUsers": "root"})
    assert set(done.failed) == {CONFIRM}, done.log
    deadline = time.monotonic() + 240
    while node.inside("test -e /var/lib/appliance/revert/fired.json", check=False).returncode:
        assert time.monotonic() < deadline, node.inside("journalctl --no-pager -b | tail -40").stdout
        time.sleep(0.2)
    fired = json.loads(node.inside("cat /var/lib/appliance/revert/fired.json").stdout)
    assert fired["faults"] == []
    assert node.inside(f"cat {SETTINGS}").stdout == before
    assert node.run("true", check=False).returncode == 0


# --- time from the site ------------------------------------------------------------------------

#: Run on the operator's side: prints whom datagrams come from that reach port 123.
LISTEN = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 123))
    sock.settimeout(20)
    print("ready", flush=True)
    data, _ = sock.recvfrom(64)
    print(data.decode(), flush=True)
"""

ASK = "import socket; socket.socket(2, 2).sendto(b'WHO', ('SERVER', 123))"


def test_only_chrony_may_ask_the_sites_clock(history: History) -> None:
    """A container has no clock of its own, so chrony is enabled and waits; its user shows the way."""
    lab, node = history.lab, history.lab.node
    server = lab.operator[0]
    when = {"source": "ntp", "servers": [server], "interface": ""}
    host = {**history.site.site["host"], "time": when}
    site = replace(history.site, site={**history.site.site, "host": host})
    site.components["system"]["packages"] = [*PACKAGES, "chrony"]
    done = site.play(tags=ROLES)
    assert done.failed == {}, done.log
    assert site.play(tags=ROLES).changed == []
    assert node.inside("systemctl is-enabled chrony.service").stdout == "enabled\n"
    configuration = node.inside("cat /etc/chrony/chrony.conf").stdout.splitlines()
    assert [line for line in configuration if line.startswith(("server", "pool"))] == [
        f"server {server} iburst"
    ]
    listener = node.operator_side.start([sys.executable, "-c", LISTEN, server])
    try:
        assert listener.stdout.readline() == "ready\n"
        for who, user in (("root", ""), ("other", "setpriv --reuid nobody --clear-groups ")):
            script = shlex.quote(ASK.replace("SERVER", server).replace("WHO", who))
            assert node.inside(f"{user}python3 -c {script}", check=False).returncode != 0
        script = shlex.quote(ASK.replace("SERVER", server).replace("WHO", "chrony"))
        node.inside(f"setpriv --reuid _chrony --clear-groups python3 -c {script}")
        assert listener.stdout.readline() == "chrony\n"
    finally:
        listener.kill()
        listener.communicate()
