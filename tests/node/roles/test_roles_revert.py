"""A network change that nobody confirms undoes itself: after a lock-out, a dead controller, a power cut."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

PROGRAM = "appliance-revert"

#: What a revert must bring back; kernel settings and services among it.
CONFIGURATION = (
    "find /etc/netplan /etc/systemd/network /etc/network /etc/ufw /etc/default/ufw /etc/resolv.conf"
    " /etc/sysctl.d -printf '%p %M %U:%G %l\\n' 2>/dev/null | sort;"
    "find /etc/netplan /etc/systemd/network /etc/ufw /etc/default/ufw /etc/resolv.conf /etc/sysctl.d"
    " -type f -exec sha256sum {} + 2>/dev/null | sort;"
    # Whether anybody else has an address of IPv6 is asked for a second or two after it was given.
    "ip -o address | sed 's/valid_lft.*//; s/ tentative//' | grep -v fe80;"
    "ip -4 route; ip -6 route | grep -v fe80;"
    "for save in iptables-save ip6tables-save; do $save -t filter | sed '/^#/d; s/ *\\[.*//'; done;"
    "cat /proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv4/conf/*/rp_filter"
)


def configuration(node: Any) -> str:
    return str(node.inside(CONFIGURATION).stdout)


def wait(node: Any, test: str, seconds: float) -> None:
    """Until the shell test holds on the node; the test fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while node.inside(test, check=False).returncode != 0:
        if time.monotonic() > deadline:
            journal = node.inside("journalctl --no-pager -b | tail -50").stdout
            pytest.fail(f"{test} does not hold on the node after {seconds} s\n{journal}")
        time.sleep(0.2)


def family(pid: int) -> list[int]:
    """A process and all its descendants; Ansible's workers lead sessions of their own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def status(node: Any) -> dict[str, Any]:
    return dict(json.loads(node.inside(f"{PROGRAM} status").stdout))


@pytest.fixture(scope="module")
def prepared(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> Any:
    """A node with packages and the revert program, its network still as it was racked."""
    stage(fresh_lab.node)
    site = new_site(fresh_lab)
    done = site.play(tags=("base", "revert"))
    assert done.failed == {}, done.log
    node = fresh_lab.node
    node.inside("iptables -P FORWARD ACCEPT; ip6tables -P FORWARD ACCEPT")  # an empty filter, but there
    return site


def lock_out(site: Any, seconds: int) -> Any:
    """The site with management networks that the operator is not in, on the node's own segment."""
    address = site.node["interfaces"][0]["addresses"][0]
    networks = [address.replace(".11/24", ".128/25")]
    management = {**site.site["management"], "networks": networks}
    return replace(site, site={**site.site, "management": management, "revert_after": seconds})


def test_a_lock_out_ends_by_itself(prepared: Any) -> None:
    node = prepared.lab.node
    before = configuration(node)
    done = lock_out(prepared, 10).play()
    assert set(done.failed) == {"Confirm the change over a fresh connection"}, done.log
    wait(node, "test -e /var/lib/appliance/revert/fired.json", 180)
    assert status(node)["fired"]["faults"] == []
    assert node.run("true", check=False).returncode == 0
    assert configuration(node) == before


def test_nothing_of_the_timer_is_left_after_it_fired(prepared: Any) -> None:
    node = prepared.lab.node
    assert status(node)["pending"] is False
    assert PROGRAM not in node.inside("ls -R /etc/systemd/system; systemctl list-timers --all").stdout


def test_a_dead_controller_is_as_good_as_a_silent_one(prepared: Any) -> None:
    """The play is killed between the change and its confirmation."""
    node = prepared.lab.node
    before = configuration(node)
    running = lock_out(prepared, 10).start()
    wait(node, "iptables -S OUTPUT | grep -q -- '-P OUTPUT DROP'", 180)
    for pid in family(running.pid):
        os.kill(pid, signal.SIGKILL)
    running.wait()
    fired = status(node)["fired"]["fired"]
    wait(node, f"! grep -q {fired} /var/lib/appliance/revert/fired.json", 180)
    assert node.run("true", check=False).returncode == 0
    assert configuration(node) == before


def test_a_power_cut_does_not_disarm(prepared: Any) -> None:
    """The timer is an enabled unit: it starts again with the node."""
    node = prepared.lab.node
    before = node.inside("cat /etc/resolv.conf").stdout
    node.inside(f"rm /var/lib/appliance/revert/fired.json; {PROGRAM} arm --after 5")
    node.inside("echo '# changed' > /etc/resolv.conf")
    node.reboot(power_cut=True)
    wait(node, "test -e /var/lib/appliance/revert/fired.json", 180)
    assert status(node)["pending"] is False
    assert node.inside("cat /etc/resolv.conf").stdout == before


def test_the_next_install_tells_of_it_and_succeeds(prepared: Any) -> None:
    done = prepared.play()
    assert done.failed == {}, done.log
    told = [text for event in done.events for text in event.get("warnings", [])]
    assert any("was never confirmed and was undone at" in text for text in told), told
    again = prepared.play()
    assert again.changed == []
    told = [text for event in again.events for text in event.get("warnings", [])]
    assert not any("was never confirmed" in text for text in told)


def test_a_confirmation_that_comes_too_late_fails(prepared: Any) -> None:
    """A change of this run must be pending; the timer was faster, so it is not."""
    node = prepared.lab.node
    node.inside("iptables -A OUTPUT -o lo -j ACCEPT")
    done = prepared.play(before_confirmation=f"{PROGRAM} restore")
    assert list(done.failed) == ["Confirm the change over a fresh connection"], done.log
    assert "cannot be confirmed" in done.failed["Confirm the change over a fresh connection"]
