"""Preflight: from facts that are fine, change one thing, and exactly one check stops the installation."""

from __future__ import annotations

import copy
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import Manifest, parse_manifest
from appliance.definition.host import Host, Time
from appliance.definition.inventory import Interface, Inventory, Management, Match, NodeEntry
from appliance.errors import (
    ApplianceError,
    BootRoomMissing,
    HostKeyChanged,
    NodeUnreachable,
    PreflightFailed,
)
from appliance.node.checks import UNPACKED_TIMES, Wanted, node_checks
from appliance.node.preflight import NodeReport, refuse
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Callable

MAC = "02:00:00:00:00:01"
NODE = NodeEntry(
    "gpu-01",
    "ssh",
    ip_address("10.20.0.11"),
    22,
    (Interface("mgmt", Match(mac=MAC), (ip_interface("10.20.0.11/24"),)),),
)
INVENTORY = Inventory(
    Path("/site/inventory.yml"),
    "example",
    Management((ip_network("10.20.0.0/28"),), (ip_address("10.20.0.1"),)),
    None,
    (NODE,),
)

GATEWAY = """\
network:
  version: 2
  ethernets:
    any:
      match: {name: "en*"}
      dhcp4: true
      routes: [{to: default, via: 10.0.0.1}]
"""


def card(name: str, mac: str, **values: Any) -> dict[str, Any]:
    """An interface as facts tell it."""
    known = {"pci": "", "hardware": True, "made": "", "max_mtu": 9978, "driver": "mlx5_core"}
    return {"name": name, "mac": mac, **known, **values}


FACTS: dict[str, Any] = {
    "uid": 0,
    "user": "root",
    "python": [3, 13, 5],
    "executable": "/usr/bin/python3",
    "distribution": "debian",
    "suite": "trixie",
    "architecture": "amd64",
    "free": 10**10,
    "boot": {"free": 10**9, "apart": True, "initramfs": 10**8, "kernel": 2 * 10**7},
    "staged": 0,
    "unpacked": 0,
    "systemd": "running",
    "time": 1_000_000.0,
    "interfaces": [card("lo", "00:00:00:00:00:00", hardware=False), card("eno1", MAC)],
    "netplan": {},
    "packages": {"ufw": "0.36.2-9", "nftables": "1.1.3-1", "netplan.io": "1.1.2-7"},
    "filter_units": {},
    "modules": {"bond": False, "vlan": False},
    "bmc": [],
    "connection": ["10.20.0.1", "50000", "10.20.0.11", "22"],
    "locks": [],
    "mounts": ["/"],
    "installed": None,
    "reverted": None,
    "bpf": True,
    "export_line": None,
}


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    return parse_manifest((pristine_bundle / "manifest.json").read_bytes())


@pytest.fixture
def stops(manifest: Manifest) -> Callable[..., list[str]]:
    """Names of the checks that stop, for facts with some things changed."""

    def run(node: NodeEntry = NODE, **changed: Any) -> list[str]:
        facts = copy.deepcopy(FACTS) | changed
        wanted = Wanted(manifest, "d" * 64, 1000, INVENTORY, 1_000_000.0)
        return [check.name for check in node_checks(node, facts, wanted) if check.stops]

    return run


def test_a_fit_node_passes(stops: Callable[..., list[str]]) -> None:
    assert stops() == []


@pytest.mark.parametrize(
    ("source", "carried", "passed"),
    [("none", "", None), ("ntp", "", False), ("ntp", "chrony", True), ("ptp", "chrony", False)],
)
def test_the_program_that_keeps_time_comes_with_the_bundle(
    manifest: Manifest, source: Any, carried: str, *, passed: bool | None
) -> None:
    component = replace(next(iter(manifest.components.values())), kind="debian")
    files = tuple(replace(file, name=carried) for file in component.files[:1]) if carried else ()
    bundle = replace(
        manifest, components={**manifest.components, "system": replace(component, files=files)}
    )
    site = replace(INVENTORY, host=Host(time=Time(source, (ip_address("10.20.0.5"),))))
    checks = node_checks(NODE, FACTS, Wanted(bundle, "d" * 64, 1000, site, 1_000_000.0))
    found = [check for check in checks if check.name == "time-source"]
    assert [check.passed for check in found] == ([] if passed is None else [passed])
    assert all(check.hint.startswith("name ") for check in found)


CATALOGUE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "Python too old for Ansible": ({"python": [3, 9, 2]}, ["python3", "python-of-bundle"]),
    "Python too new for Ansible": ({"python": [3, 15, 0]}, ["python3", "python-of-bundle"]),
    "another Python than the wheels'": ({"python": [3, 12, 1]}, ["python-of-bundle"]),
    "another distribution": ({"distribution": "ubuntu"}, ["distribution"]),
    "another suite": ({"suite": "bookworm"}, ["distribution"]),
    "another architecture": ({"architecture": "arm64"}, ["architecture"]),
    "no systemd": ({"systemd": ""}, ["systemd"]),
    "systemd going down": ({"systemd": "stopping"}, ["systemd"]),
    "no root and no sudo": ({"uid": 1000, "user": "alice"}, ["root"]),
    "disk full": ({"free": 1000}, ["disk-space"]),
    "no such card": ({"interfaces": [card("eno1", "02:00:00:00:00:99")]}, ["interface-mgmt"]),
    "the address twice": ({"interfaces": [card("eno1", MAC), card("eno2", MAC)]}, ["interface-mgmt"]),
    "no ufw anywhere": ({"packages": {"netplan.io": "1.1", "nftables": "1"}}, ["package-ufw"]),
    "no netplan anywhere": ({"packages": {"ufw": "0.36.2-9", "nftables": "1"}}, ["package-netplan"]),
    "netplan of Ubuntu 22.04 as it came out": (
        {"packages": {"ufw": "0.36.1", "nftables": "1", "netplan.io": "0.104-0ubuntu2"}},
        ["package-netplan"],
    ),
    "nftables fights ufw": ({"filter_units": {"nftables.service": "enabled active"}}, ["packet-filters"]),
    "Docker opens the filter": ({"filter_units": {"docker.service": "active"}}, ["packet-filters"]),
    "a package's netplan file with a gateway": (
        {"netplan": {"/usr/lib/netplan/00-vendor.yaml": GATEWAY}},
        ["netplan-of-packages"],
    ),
    "a package's netplan file that nobody can read": (
        {"netplan": {"/lib/netplan/00-vendor.yaml": "network: [\n"}},
        ["netplan-of-packages"],
    ),
    "station seen from elsewhere": (
        {"connection": ["10.20.0.2", "1", "10.20.0.11", "22"]},
        ["operator-address"],
    ),
    "station seen from outside": (
        {"connection": ["192.0.2.1", "1", "10.20.0.11", "22"]},
        ["operator-address"],
    ),
    "station not seen": ({"connection": []}, ["operator-address"]),
    "packages being installed": ({"locks": ["/var/lib/dpkg/lock"]}, ["package-locks"]),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_an_unfit_node_is_stopped_by_name(stops: Callable[..., list[str]], case: str) -> None:
    changed, names = CATALOGUE[case]
    assert stops(**changed) == names


@pytest.mark.parametrize(
    "changed",
    [
        {"systemd": "degraded"},
        {"connection": ["::ffff:10.20.0.1", "1", "::ffff:10.20.0.11", "22"]},
        {"installed": {"product": "demo", "sequence": 99}},  # its journal is asked, not this
        {"time": 0.0},
        {"reverted": {"fired": "2026-01-01T00:00:00Z"}},
    ],
)
def test_what_is_only_information_or_fine_stops_nothing(
    stops: Callable[..., list[str]], changed: dict[str, Any]
) -> None:
    assert stops(**changed) == []


def test_a_node_on_its_own_needs_no_operator_address(stops: Callable[..., list[str]]) -> None:
    local = NodeEntry("gpu-01", "local", NODE.address, 22, NODE.interfaces)
    assert stops(local, connection=[]) == []


def test_what_is_staged_already_is_not_asked_for_again(manifest: Manifest) -> None:
    size = 10**12
    wanted = Wanted(manifest, "d" * 64, size, INVENTORY, 0.0)
    checks = {check.name: check for check in node_checks(NODE, FACTS | {"staged": size}, wanted)}
    assert checks["disk-space"].passed
    checks = {check.name: check for check in node_checks(NODE, FACTS, wanted)}
    assert not checks["disk-space"].passed


@pytest.mark.parametrize(
    ("staged", "written"),
    [(0, 10**9), (9 * 10**11, 10**9), (10**12 - 10**8, 10**8), (10**12, 0)],
    ids=["nothing yet", "some that is shared", "most of what is new", "all"],
)
def test_what_is_shared_takes_no_room_and_makes_none(staged: int, written: int, manifest: Manifest) -> None:
    """Of a terabyte a gigabyte is new; what is staged may be the one or the other."""
    wanted = Wanted(manifest, "d" * 64, 10**12, INVENTORY, 0.0, shared=10**12 - 10**9)
    without = Wanted(manifest, "d" * 64, 0, INVENTORY, 0.0)

    def passes(free: int, wanted: Wanted) -> bool:
        facts = FACTS | {"staged": staged, "free": free}
        return all(check.passed for check in node_checks(NODE, facts, wanted) if check.name == "disk-space")

    least = next(free for free in range(0, 1 << 40, 1 << 20) if passes(free, without))
    assert passes(least + written, wanted)
    assert not written or not passes(least + written - (2 << 20), wanted)


def test_an_engine_takes_room_unpacked_and_other_plain_files_do_not(manifest: Manifest) -> None:
    component = manifest.components["engine"]
    engine = replace(component, kind="files", files=(replace(component.files[0], size=10**9),))
    manifest = replace(manifest, components={**manifest.components, "engine": engine})

    def wanted_text(served_by: str) -> str:
        inference = replace(manifest.inference, engine=served_by)
        wanted = Wanted(replace(manifest, inference=inference), "d" * 64, 0, INVENTORY, 0.0)
        checks = {check.name: check for check in node_checks(NODE, FACTS, wanted)}
        return checks["disk-space"].wanted

    def megabytes(text: str) -> float:
        return float(text.partition(" MB")[0].replace(",", ""))

    more = megabytes(wanted_text("engine")) - megabytes(wanted_text("system"))
    assert more == pytest.approx(UNPACKED_TIMES * 1000, abs=2)


def test_what_a_failed_run_has_unpacked_and_installed_takes_no_room_again(manifest: Manifest) -> None:
    """The same command has to go on where there was just enough room at first."""
    one = manifest.components["engine"].files[0]
    parts = {
        **manifest.components,
        "engine": replace(manifest.components["engine"], files=(replace(one, size=10**8),)),
        "system": replace(
            manifest.components["engine"],
            kind="debian",
            files=(replace(one, name="ufw", version="0.36.2-9", size=10**8),),
        ),
    }
    wanted = Wanted(replace(manifest, components=parts), "d" * 64, 0, INVENTORY, 0.0)

    def megabytes(**facts: Any) -> int:
        checks = {check.name: check for check in node_checks(NODE, FACTS | facts, wanted)}
        return int(checks["disk-space"].wanted.partition(" MB")[0].replace(",", ""))

    without = megabytes(packages={})
    assert without - megabytes(packages={"ufw": "0.36.2-8"}) == 0
    assert without - megabytes() == UNPACKED_TIMES * 100
    assert without - megabytes(packages={}, unpacked=3 * 10**8) == 300
    assert megabytes(unpacked=10**12) == megabytes(packages={}, unpacked=10**13) > 0


def test_a_node_without_the_name_is_found_by_name_too(stops: Callable[..., list[str]]) -> None:
    named = NodeEntry(
        "gpu-01",
        "ssh",
        NODE.address,
        22,
        (Interface("mgmt", Match(name="eno2"), NODE.interfaces[0].addresses),),
    )
    assert stops(named) == ["interface-mgmt"]
    assert stops(named, interfaces=[card("eno2", MAC)]) == []


def test_a_bridge_that_borrows_the_address_is_not_the_card(stops: Callable[..., list[str]]) -> None:
    borrowed = card("br0", MAC, hardware=False)
    assert stops(interfaces=[borrowed, card("eno1", MAC)]) == []


def failed(name: str, passed: bool | None = False) -> Check:
    return Check(name, passed, f"found {name}", f"wanted {name}", f"do {name}")


@pytest.mark.parametrize(
    ("checks", "error"),
    [
        ([failed("reachable")], NodeUnreachable),
        ([failed("host-key")], HostKeyChanged),
        ([failed("host-key"), failed("reachable")], PreflightFailed),
        ([failed("disk-space")], PreflightFailed),
        ([failed("boot-space")], BootRoomMissing),
        ([failed("boot-space"), failed("disk-space")], PreflightFailed),
        ([failed("python3"), failed("system", None)], PreflightFailed),
    ],
)
def test_the_error_is_named_by_what_failed(checks: list[Check], error: type[ApplianceError]) -> None:
    reports = [NodeReport(NODE, (check,)) for check in checks]
    with pytest.raises(error) as caught:
        refuse(reports)
    assert type(caught.value) is error
    for check in checks:
        assert check.name in (caught.value.found or "")
        if check.passed is False:
            assert check.wanted in (caught.value.wanted or "")
            assert check.hint in (caught.value.hint or "")


def test_passed_checks_refuse_nothing() -> None:
    refuse([NodeReport(NODE, (Check("x", True, "", ""), Check("y", False, "", "", level="information")))])
