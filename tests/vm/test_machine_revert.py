"""The timed revert on a kernel of its own: a power cut with a wrong network on the disk; a clock set.

The program is put onto the machine by hand; its roles are tested elsewhere.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Machines

pytestmark = pytest.mark.vm

FILES = Path(__file__).parents[2] / "roles/revert/files"
PROGRAM = "/usr/local/sbin/appliance-revert"


@pytest.fixture(scope="module")
def node(machines: Machines) -> Any:
    """A machine as it was racked, with the program."""
    for path in sorted(each for each in FILES.rglob("*") if each.is_file()):
        target = f"/{path.relative_to(FILES)}"
        put = f"mkdir -p $(dirname {target}) && cat > {target} && chmod 700 {target}"
        machines.node.run(put, input=path.read_text())
    return machines.node


def status(node: Any) -> dict[str, Any]:
    return dict(json.loads(node.run(f"{PROGRAM} status", timeout=300).stdout))


def wait_undone(node: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 600
    while (found := status(node))["pending"] or not found["fired"]:
        assert time.monotonic() < deadline, node.run("journalctl -b --no-pager | tail -50").stdout
        time.sleep(1)
    return found


def test_a_wrong_network_on_the_disk_is_gone_before_the_next_start_reads_it(
    node: Any, injected: Callable[[str], None]
) -> None:
    """The machine answers, ten minutes before its timer; with the wrong files it could not."""
    files = "find /etc/systemd/network /etc/netplan -type f -exec sha256sum {} + 2>/dev/null | sort"
    before = node.run(files).stdout
    assert before
    node.run(f"{PROGRAM} arm --after 600 --run this", timeout=300)
    node.run("sed -i -E 's/^Address=.*/Address=192.0.2.9\\/24/' /etc/systemd/network/*.network; sync")
    assert node.run(files).stdout != before
    node.reboot(power_cut=True)
    assert wait_undone(node)["fired"]["faults"] == []
    assert node.run(files).stdout == before
    lines = [
        int(node.run(f"journalctl -b --no-pager | grep -n -m1 '{text}'").stdout.partition(":")[0])
        for text in ("Finished appliance-revert-boot", "Starting systemd-networkd.service")
    ]
    assert lines == sorted(lines)
    assert "appliance-revert" not in node.run("ls -R /etc/systemd/system").stdout
    injected("on a virtual machine: power cuts")


@pytest.mark.parametrize("jump", ["2001-01-01", "2099-01-01"])
def test_a_clock_that_jumps_neither_stops_the_timer_nor_fires_it(
    node: Any, injected: Callable[[str], None], jump: str
) -> None:
    node.run("rm -f /var/lib/appliance/revert/fired.json")
    node.run(f"{PROGRAM} arm --after 600", timeout=300)
    node.run(f"date -s {jump}")
    assert status(node)["pending"] is True
    node.run("echo '# changed' >> /etc/resolv.conf")
    node.run(f"{PROGRAM} arm --after 1; date -s {jump}", timeout=300)
    assert wait_undone(node)["fired"]["faults"] == []
    assert "# changed" not in node.run("cat /etc/resolv.conf").stdout
    injected("on a virtual machine: jumps of the clock")
