"""The whole installation on a kernel and a udev of its own: what a container cannot show of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.conftest import Installer, demo, new_bundle, trusted

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Machines, NewMachines

    from tests.node.conftest import Operator

pytestmark = [pytest.mark.vm, pytest.mark.archive]
__all__ = ["demo", "new_bundle", "trusted"]


def test_the_demonstration_is_isolated_by_real_netplan_and_stays_so_after_a_reboot(
    new_machines: NewMachines, desk: Operator, demo: Path, trusted: Path, tmp_path: Path
) -> None:
    with new_machines() as machines:
        installer = Installer(desk, machines.lab, demo, trusted, tmp_path)
        installer.timeout = 1800
        assert "default via" in machines.node.run("ip route").stdout
        code, result, told = installer()
        assert code == 0, (result, told)
        _assert_isolated(machines)
        machines.node.reboot()
        _assert_isolated(machines)
        code, result, told = installer()
        assert code == 0, (result, told)
        _assert_isolated(machines)


def _assert_isolated(machines: Machines) -> None:
    """Three interfaces with static addresses from netplan's file, and no way out by any of them."""
    run = machines.node.run
    assert run("ip -4 route show default; ip -6 route show default").stdout == ""
    links: list[dict[str, Any]] = json.loads(run("ip -json address").stdout)
    found = {
        link["address"]: {info["local"] for info in link["addr_info"] if info["scope"] == "global"}
        for link in links
        if link["ifname"] != "lo"
    }
    wanted = {nic["mac"]: set(nic["addresses"]) for nic in machines.node_status()["interfaces"]}
    assert found == wanted
    for mac in wanted:
        assert mac in run("cat /etc/netplan/90-appliance.yaml").stdout
