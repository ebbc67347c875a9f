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


RULES = "nft --stateless list ruleset"


def test_the_demonstration_is_isolated_and_locked_by_a_kernel_of_its_own_also_after_a_reboot(
    new_machines: NewMachines, desk: Operator, demo: Path, trusted: Path, tmp_path: Path
) -> None:
    with new_machines() as machines:
        inventory = machines.lab.inventory / "inventory.yml"
        inventory.write_text(f"{inventory.read_text()}module_loading: locked\n")
        installer = Installer(desk, machines.lab, demo, trusted, tmp_path)
        installer.timeout = 1800
        run = machines.node.run
        assert "default via" in run("ip route").stdout
        code, result, told = installer()
        assert code == 0, (result, told)
        _assert_isolated(machines)
        _assert_quiet(installer, machines)
        machines.node.reboot()
        _assert_isolated(machines)
        run("until systemctl is-active -q appliance-lock-modules; do sleep 0.5; done", timeout=300)
        assert run("modprobe dummy", check=False).returncode != 0
        before = run(RULES).stdout
        run("systemctl restart ufw")
        assert run(RULES).stdout == before
        code, result, told = installer()
        assert code == 0, (result, told)
        assert result["changes"] == []
        _assert_isolated(machines)
        _assert_quiet(installer, machines)


def _assert_quiet(installer: Installer, machines: Machines) -> None:
    """Of what a container cannot show, nothing is left unproven here."""
    (path,) = installer.state.glob(f"runs/*/{machines.node.name}/report/report.json")
    items = {item["name"]: item for item in json.loads(path.read_text())["items"]}
    quiet = {name for name in items if name.startswith("quiet.")}
    assert {"quiet.kernel", "quiet.audit", "quiet.module-lock"} <= quiet
    assert [items[name] for name in sorted(quiet) if items[name]["status"] != "passed"] == []


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
