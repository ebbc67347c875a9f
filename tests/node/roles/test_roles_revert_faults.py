"""Failures injected on a booted node, with real ufw, netplan, systemd and sshd: it is never locked out.

One node, isolated once; each case changes it wrongly, behind ``appliance-revert``, and looks for a fresh
SSH login and the old configuration.  The timer is set to a second only when all is wrong: until then
nothing here runs against it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.roles import faults
from tests.node.roles.test_roles_revert import CONFIGURATION, configuration, family, lock_out, status, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.node, pytest.mark.archive]

FIRED = "/var/lib/appliance/revert/fired.json"
PENDING = "/var/lib/appliance/revert/pending"
PROGRAM = "/usr/local/sbin/appliance-revert"
UNIT = "appliance-revert"

#: Run on the operator's side: whether somebody greets as an SSH server, by a connection of its own.
GREETS = """
import socket, sys
with socket.create_connection((sys.argv[1], 22), timeout=2) as stream:
    sys.exit(not stream.recv(4).startswith(b"SSH-"))
"""


@pytest.fixture(scope="module")
def site(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> Any:
    """An isolated node."""
    stage(fresh_lab.node)
    made = new_site(fresh_lab)
    done = made.play(tags=("base", "revert", "network_isolation", "firewall"))
    assert done.failed == {}, done.log
    fresh_lab.node.inside("mkdir -p /etc/ssh/sshd_config.d")
    return made


@pytest.fixture(scope="module")
def entered(site: Any) -> faults.Entered:
    return faults.Entered(site.lab.node)


@pytest.fixture
def node(entered: faults.Entered) -> faults.Entered:
    """The node; what it was is what it has to be in the end."""
    entered.inside(f"rm -f {FIRED}")
    return entered


@pytest.fixture
def trap(node: Any) -> Iterator[faults.Trap]:
    made = faults.Trap(node)
    yield made
    made.remove()


def answers(node: Any) -> bool:
    """Whether root gets in over a new connection."""
    greet = [sys.executable, "-c", GREETS, node.address4]
    if node.operator_side.run(greet, check=False).returncode:
        return False
    return bool(node.run("true", check=False).returncode == 0)


def spoil(site: Any, node: Any, wrong: str) -> None:
    """Arm and change; the change's own commands may fail, as a role's may."""
    address = site.node["interfaces"][0]["addresses"][0]
    other = address.replace(".11/24", ".77")
    done = node.inside(
        f"{PROGRAM} arm --after 600 --run this || exit 99;"
        f" DEV=$(ls /sys/class/net | grep -vx lo) ADDRESS={address} OTHER={other};"
        f" OPERATOR={site.lab.operator[0]}; {faults.WRONG[wrong]}",
        check=False,
    )
    assert done.returncode != 99, done.stderr
    assert wrong in faults.HARMLESS or not answers(node), (
        f"{wrong}: that is not wrong\n{done.stdout}\n{done.stderr}"
    )


def undone(node: Any, before: str, first: str = f"{PROGRAM} arm --after 1 --run this;") -> None:
    """The timer fires, or has fired; then everything is as it was.

    ``first``: what is done on the node before that is waited for.
    """
    done = f"test -e {FIRED} && ! test -e {PENDING} && ! test -e /etc/systemd/system/{UNIT}.service"
    wait = (
        f"tries=0; until {done}; do sleep 0.2; tries=$((tries + 1)); [ $tries -lt 1500 ] || exit 98; done"
    )
    found = node.inside(f"{first} {wait}; echo ===; cat {FIRED}; echo ===; {CONFIGURATION}", check=False)
    journal = f"journalctl -b --no-pager -u {UNIT}.service -u {UNIT}.timer | tail -40"
    assert found.returncode == 0, found.stdout + found.stderr + node.inside(journal).stdout
    _, fired, after = found.stdout.split("===\n")
    assert json.loads(fired)["faults"] == []
    deadline = time.monotonic() + 480  # a busy machine greets late
    while not answers(node):
        assert time.monotonic() < deadline, node.inside(
            "ip address; iptables -S; systemctl status ssh"
        ).stdout
    assert after == before


@pytest.mark.parametrize("wrong", faults.WRONG)
def test_a_wrong_change_is_undone_by_the_timer(
    site: Any, node: Any, injected: Callable[[str], None], wrong: str
) -> None:
    before = configuration(node)
    spoil(site, node, wrong)
    undone(node, before)
    injected("on a booted node: wrong changes")


@pytest.mark.parametrize("command", faults.WHILE_UNDOING)
def test_undoing_that_is_killed_is_started_again_by_systemd(
    site: Any, node: Any, trap: faults.Trap, injected: Callable[[str], None], command: str
) -> None:
    before = configuration(node)
    spoil(site, node, "addresses, rules and SSH server")
    trap.set(command)
    undone(node, before)
    assert trap.sprung
    injected("on a booted node: undoing killed")


@pytest.mark.parametrize("command", faults.THAT_FAIL)
def test_a_command_that_fails_once_is_tried_again(
    site: Any, node: Any, trap: faults.Trap, injected: Callable[[str], None], command: str
) -> None:
    before = configuration(node)
    spoil(site, node, "addresses, rules and SSH server")
    trap.set(command, fails=True)
    undone(node, before)
    assert trap.sprung
    injected("on a booted node: a command of undoing fails")


@pytest.mark.parametrize("command", faults.WHILE_ARMING)
def test_arming_that_is_killed_leaves_the_node_as_it_is(
    node: Any, trap: faults.Trap, injected: Callable[[str], None], command: str
) -> None:
    before = configuration(node)
    trap.set(command)
    done = node.inside(f"PATH={faults.PATH} {PROGRAM} arm --after 600", check=False)
    assert trap.sprung, done.stderr
    assert done.returncode != 0
    trap.remove()
    assert status(node)["pending"] is False
    assert json.loads(node.inside(f"{PROGRAM} restore").stdout)["restored"] is False
    assert configuration(node) == before
    assert node.inside("ls -R /etc/systemd/system; systemctl list-timers --all").stdout.count(UNIT) == 0
    injected("on a booted node: arming killed")


@pytest.mark.parametrize("command", faults.WHILE_CONFIRMING)
def test_a_confirmation_that_is_killed_has_confirmed(
    node: Any, trap: faults.Trap, injected: Callable[[str], None], command: str
) -> None:
    """It was one from the first thing it did; the timer finds nothing to undo, and goes."""
    node.inside(f"{PROGRAM} arm --after 600; echo '# changed' >> /etc/resolv.conf")
    after = configuration(node)
    trap.set(command)
    done = node.inside(f"PATH={faults.PATH} {PROGRAM} confirm", check=False)
    assert trap.sprung, done.stderr
    assert done.returncode != 0
    trap.remove()
    node.inside(f"{PROGRAM} restore --due")
    assert configuration(node) == after
    assert node.inside("ls -R /etc/systemd/system; systemctl list-timers --all").stdout.count(UNIT) == 0
    node.inside("sed -i '/# changed/d' /etc/resolv.conf")
    injected("on a booted node: confirming killed")


# --- the power -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", ["a netplan file that is no YAML", "denies everything", "addresses, rules and SSH server"]
)
def test_a_node_that_loses_its_power_starts_with_the_old_network(
    site: Any, node: Any, injected: Callable[[str], None], wrong: str
) -> None:
    """Long before its timer, which has ten minutes."""
    before = configuration(node)
    spoil(site, node, wrong)
    node.reboot(power_cut=True)
    undone(node, before, first="")
    injected("on a booted node: power cuts")
    order = [
        f"journalctl -b -o short-monotonic --no-pager | grep -n -m1 '{text}'"
        for text in ("Finished appliance-revert-boot", "Starting systemd-networkd.service")
    ]
    lines = [int(node.inside(look).stdout.partition(":")[0]) for look in order]
    assert lines == sorted(lines)


def test_the_power_goes_while_it_is_undone(
    site: Any, node: Any, trap: faults.Trap, injected: Callable[[str], None]
) -> None:
    before = configuration(node)
    spoil(site, node, "addresses, rules and SSH server")
    trap.set("systemctl restart systemd-networkd.service")
    done = node.inside(f"PATH={faults.PATH} {PROGRAM} restore", check=False)
    assert (trap.sprung, done.returncode != 0) == (True, True)
    node.reboot(power_cut=True)
    undone(node, before, first="")
    injected("on a booted node: power cuts")


# --- who confirms --------------------------------------------------------------------------------


def test_a_connection_that_is_older_than_the_change_confirms_nothing(
    site: Any, node: Any, injected: Callable[[str], None]
) -> None:
    """It works on under rules that let nobody in any more; a new one would be needed, and is not let in."""
    before = configuration(node)
    old = site.lab.node.operator_side.start(
        ["appliance", "lab", "shell", node.name, "--", "sh"], stdin=-1, bufsize=1
    )
    try:
        old.stdin.write("echo ready\n")
        assert old.stdout.readline() == "ready\n"
        spoil(site, node, "another SSH port admitted")
        old.stdin.write(f"{PROGRAM} confirm --fresh --run this\n")
        answer = json.loads(old.stdout.readline())
    finally:
        old.stdin.close()
        old.kill()
        old.wait()
    assert (answer["confirmed"], answer["pending"]) == (False, True)
    assert "older than the change" in answer["refused"]
    undone(node, before)
    injected("on a booted node: confirmations that do not count")


def test_another_run_confirms_nothing(node: Any, injected: Callable[[str], None]) -> None:
    node.inside(f"{PROGRAM} arm --after 600 --run this")
    answer = json.loads(node.run(f"{PROGRAM} confirm --fresh --run other").stdout)
    assert (answer["confirmed"], answer["pending"]) == (False, True)
    assert "another run" in answer["refused"]
    answer = json.loads(node.run(f"{PROGRAM} confirm --fresh --run this").stdout)
    assert (answer["confirmed"], answer["refused"]) == (True, "")
    injected("on a booted node: confirmations that do not count")


def test_a_command_of_the_node_itself_confirms_nothing(node: Any, injected: Callable[[str], None]) -> None:
    node.inside(f"{PROGRAM} arm --after 600 --run this")
    answer = json.loads(node.inside(f"{PROGRAM} confirm --fresh --run this").stdout)
    assert "not come over an SSH connection" in answer["refused"]
    assert json.loads(node.inside(f"{PROGRAM} confirm").stdout)["confirmed"] is True
    injected("on a booted node: confirmations that do not count")


def test_only_the_time_since_the_start_counts(node: Any) -> None:
    """No clock that anybody could set."""
    node.inside(f"{PROGRAM} arm --after 600")
    shown = node.inside("systemctl show -p TimersMonotonic -p TimersCalendar appliance-revert.timer").stdout
    node.inside(f"{PROGRAM} confirm")
    assert "OnActiveUSec=10min" in shown
    assert "OnCalendar" not in shown


# --- the controller ------------------------------------------------------------------------------

#: Until the controller is killed, or the node's end of its connections.
UNTIL = {
    "armed": "test -e /var/lib/appliance/revert/pending/armed.json",
    "the rules are written": "grep -q '128/25' /etc/ufw/user.rules",
    "the rules are loaded": "iptables -S | grep -q '128/25'",
}


@pytest.mark.parametrize(
    ("who", "when"),
    [
        ("controller", "armed"),
        ("controller", "the rules are written"),
        ("connections", "the rules are loaded"),
    ],
)
def test_who_changes_the_node_dies_in_the_middle(
    site: Any, node: Any, injected: Callable[[str], None], when: str, who: str
) -> None:
    before = configuration(node)
    running = replace(lock_out(site, 600), folder=site.folder).start()
    try:
        wait(node, UNTIL[when], 120)
        if who == "connections":
            node.inside("pkill -KILL -x sshd-session; true")
    finally:
        for pid in family(running.pid) if running.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
        running.wait()
    # A module on the node may be at work still, and arm again; the change is over when it has ended.
    wait(node, "! pgrep -f [A]nsiballZ >/dev/null", 120)
    undone(node, before)
    injected("on a booted node: the controller or its connections killed")


def test_the_node_can_be_installed_after_all_that(site: Any) -> None:
    done = site.play()
    assert done.failed == {}, done.log
    assert site.play().changed == []
