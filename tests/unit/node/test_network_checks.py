"""Preflight of a network with bonds and VLANs, and where in the inventory its complaints point."""

from __future__ import annotations

import copy
import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import PreflightFailed
from appliance.node.install import Installation, Outcome
from appliance.node.network_checks import network_checks
from appliance.node.preflight import NodeReport, refuse
from appliance.node.runs import Stage
from appliance.node.script import load_script
from appliance.node.summary import outcome_text
from tests.unit.definition.test_inventory_links import VALID
from tests.unit.node.test_checks import FACTS, GATEWAY, card

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.bundle.manifest import Manifest
    from appliance.node.verdict import Check

INVENTORY, _ = parse_inventory(VALID, Path("/site/inventory.yml"))
NODE = INVENTORY.nodes[0]
PRESENT = {
    **FACTS,
    "interfaces": [
        card("eno1", "02:00:00:00:00:01", pci="0000:18:00.0"),
        card("ens3f0np0", "02:00:00:00:00:02", pci="0000:5e:00.0"),
        card("ens3f1np1", "02:00:00:00:00:03", pci="0000:5e:00.1"),
        card("ens9", "02:00:00:00:00:04", pci="0000:99:00.0"),
    ],
    "modules": {"bond": True, "vlan": True},
}


@pytest.fixture
def script() -> ModuleType:
    """The functions of the script that gathers facts, without its last line, which runs it."""
    module = ModuleType("facts")
    source, _, _ = load_script("facts").decode().rpartition("\nprint(")
    exec(compile(source, "facts.py", "exec"), module.__dict__)  # noqa: S102 - as a node runs it
    return module


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    return parse_manifest((pristine_bundle / "manifest.json").read_bytes())


@pytest.fixture
def checks(manifest: Manifest) -> Callable[..., dict[str, Check]]:
    def run(**changed: Any) -> dict[str, Check]:
        facts = copy.deepcopy(PRESENT) | changed
        return {check.name: check for check in network_checks(NODE, facts, manifest, INVENTORY)}

    return run


def stops(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if check.stops]


def test_a_fit_node_passes(checks: Callable[..., dict[str, Check]]) -> None:
    assert stops(checks()) == []


def without(name: str) -> list[dict[str, Any]]:
    return [entry for entry in PRESENT["interfaces"] if entry["name"] != name]


def small(name: str) -> list[dict[str, Any]]:
    return [entry | ({"max_mtu": 1500} if entry["name"] == name else {}) for entry in PRESENT["interfaces"]]


def renamed(names: dict[str, str]) -> list[dict[str, Any]]:
    return [entry | {"name": names.get(entry["name"], entry["name"])} for entry in PRESENT["interfaces"]]


# what is changed, the check that stops, the place in the inventory it points at
CATALOGUE: dict[str, tuple[dict[str, Any], str, str]] = {
    "card pulled": ({"interfaces": without("ens3f0np0")}, "interface-data0", "18:16"),
    "unknown MAC": ({"interfaces": without("eno1")}, "interface-mgmt", "13:16"),
    "packets too large for one card of a bond": ({"interfaces": small("ens3f1np1")}, "mtu-data", "30:14"),
    "no bonding": ({"modules": {"bond": False, "vlan": True}}, "bond-data", "26:9"),
    "no VLANs": ({"modules": {"bond": True, "vlan": False}}, "vlan-storage", "38:9"),
    "a card bears the bond's name": (
        {"interfaces": [*PRESENT["interfaces"], card("data", "02:00:00:00:00:09")]},
        *("bond-data", "26:9"),
    ),
    "names in order of discovery": (
        {"interfaces": renamed({"eno1": "eth0", "ens3f0np0": "eth1"})},
        *("interface-names", ""),
    ),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_what_the_node_lacks_is_told_with_its_place_in_the_inventory(
    checks: Callable[..., dict[str, Check]], case: str
) -> None:
    changed, name, place = CATALOGUE[case]
    found = checks(**changed)
    assert stops(found) == [name]
    assert found[name].where == (f"/site/inventory.yml:{place}" if place else "")
    assert found[name].found
    assert found[name].wanted


def test_one_card_alone_may_have_a_number(checks: Callable[..., dict[str, Check]]) -> None:
    assert stops(checks(interfaces=renamed({"eno1": "eth0"}))) == []


def test_the_error_names_the_place(checks: Callable[..., dict[str, Check]]) -> None:
    report = NodeReport(NODE, tuple(checks(interfaces=without("eno1")).values()))
    with pytest.raises(PreflightFailed) as caught:
        refuse([report])
    assert "/site/inventory.yml:13:16" in (caught.value.wanted or "")
    assert "MAC address 02:00:00:00:00:01" in (caught.value.wanted or "")


def test_files_of_others_are_told_with_their_gateways_and_taken_over(
    checks: Callable[..., dict[str, Check]],
) -> None:
    files = {"/etc/netplan/50-cloud-init.yaml": GATEWAY, "/etc/netplan/90-appliance.yaml": GATEWAY}
    found = checks(netplan=files)
    assert stops(found) == []
    told = found["netplan-taken-over"]
    assert told.passed is False
    assert told.found == (
        "/etc/netplan/50-cloud-init.yaml (dhcp4 at /etc/netplan/50-cloud-init.yaml:6:7; "
        "routes at /etc/netplan/50-cloud-init.yaml:7:7)"
    )


def test_a_packages_file_is_refused_at_its_place_and_one_that_sets_a_renderer_is_not(
    checks: Callable[..., dict[str, Check]],
) -> None:
    harmless = "network:\n  version: 2\n  renderer: NetworkManager\n"
    assert stops(checks(netplan={"/usr/lib/netplan/00-network-manager-all.yaml": harmless})) == []
    found = checks(netplan={"/usr/lib/netplan/00-vendor.yaml": GATEWAY})
    assert found["netplan-of-packages"].where == "/usr/lib/netplan/00-vendor.yaml:6:7"
    assert "routes at /usr/lib/netplan/00-vendor.yaml:7:7" in found["netplan-of-packages"].found


def test_a_bmc_is_reported_and_stops_nothing(checks: Callable[..., dict[str, Check]]) -> None:
    found = checks(bmc=["/dev/ipmi0", "network card enx001"])
    assert stops(found) == []
    assert (found["bmc"].passed, found["bmc"].found) == (False, "/dev/ipmi0, network card enx001")
    assert checks()["bmc"].passed is True


@pytest.mark.parametrize(
    ("version", "fit"), [("0.105-1", False), ("0.106", True), ("1:1.0-2", True), ("x", False)]
)
def test_the_bundle_brings_programs_too(
    manifest: Manifest, checks: Callable[..., dict[str, Check]], version: str, *, fit: bool
) -> None:
    assert "package-netplan" in stops(checks(packages={}))
    model = next(iter(manifest.components.values()))
    file = dataclasses.replace(model.files[0], name="netplan.io", version=version)
    system = dataclasses.replace(model, kind="debian", files=(file,))
    changed = dataclasses.replace(manifest, components={**manifest.components, "system": system})
    found = {
        each.name: each for each in network_checks(NODE, PRESENT | {"packages": {}}, changed, INVENTORY)
    }
    assert found["package-netplan"].passed is fit


def test_facts_of_this_very_machine_have_what_checks_look_at(script: ModuleType) -> None:
    found = script.facts("", "0" * 64)
    assert set(PRESENT) == set(found)
    (loopback,) = [entry for entry in found["interfaces"] if entry["name"] == "lo"]
    assert set(loopback) == set(card("lo", ""))
    assert (loopback["hardware"], loopback["pci"], loopback["made"]) == (False, "", "")


@pytest.mark.parametrize(("kind", "made"), [("bridge", "bridge"), ("bond", "bond"), ("veth", ""), ("", "")])
def test_a_veth_is_a_card_and_a_bridge_is_none(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, kind: str, made: str
) -> None:
    """A practice node's only card is a veth."""
    listing = json.dumps([{"ifname": "lo", "linkinfo": {"info_kind": kind} if kind else {}}])
    monkeypatch.setattr(script, "output", lambda *_: listing)
    (loopback,) = [entry for entry in script.interfaces() if entry["name"] == "lo"]
    assert loopback["made"] == made


def test_a_netplan_file_hides_those_of_its_name_that_count_less(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in ("lib", "etc")]
    for folder in folders:
        folder.mkdir()
        (folder / "50.yaml").write_text(folder.name)
    (folders[0] / "00.yaml").write_text("vendor")
    monkeypatch.setattr(script, "NETPLAN", tuple(map(str, folders)))
    found = script.netplan_files()
    assert found == {f"{folders[0]}/00.yaml": "vendor", f"{folders[1]}/50.yaml": "etc"}


@pytest.mark.parametrize(
    ("lock", "known", "name", "able"),
    [
        ("0\n", True, "absent", True),
        ("0\n", False, "absent", False),
        (None, True, "absent", True),
        ("1\n", True, "absent", False),
        ("1\n", False, "kernel", True),  # /sys/module/kernel is always there
    ],
)
def test_a_module_counts_that_is_loaded_or_that_the_kernel_would_still_take(  # noqa: PLR0917 - one case
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock: str | None,
    known: bool,
    name: str,
    able: bool,
) -> None:
    switch = tmp_path / "modules_disabled"
    if lock:
        switch.write_text(lock)
    monkeypatch.setattr(script, "MODULE_LOCK", str(switch))
    monkeypatch.setattr(script, "MODULES", {"bond": name})
    monkeypatch.setattr(script, "status", lambda *_: 0 if known else 1)
    assert script.modules() == {"bond": able}


def test_what_is_only_to_be_known_is_told_at_the_end(
    manifest: Manifest, checks: Callable[..., dict[str, Check]]
) -> None:
    bundle: Any = SimpleNamespace(manifest=manifest, digest="d" * 64)
    report = NodeReport(NODE, tuple(checks(bmc=["/dev/ipmi0"]).values()))
    text = outcome_text(Outcome(bundle, Stage.PREFLIGHT, check=False, nodes=(NODE,), preflight=(report,)))
    notes = [line for line in text.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: gpu-01: bmc: /dev/ipmi0; put the BMC's own port")


@pytest.mark.parametrize("check", [True, False])
def test_what_is_only_to_be_known_is_told_before_anything_is_changed(
    manifest: Manifest,
    checks: Callable[..., dict[str, Check]],
    monkeypatch: pytest.MonkeyPatch,
    *,
    check: bool,
) -> None:
    """Above all which gateways will go: whoever needs them can still stop."""
    found = checks(netplan={"/etc/netplan/50-cloud-init.yaml": GATEWAY})
    report = NodeReport(NODE, tuple(found.values()))
    told: list[str] = []
    monkeypatch.setattr("appliance.node.preflight.look_at_nodes", lambda *_: (report,))
    installation: Any = SimpleNamespace(
        bundle=SimpleNamespace(manifest=manifest, digest="d" * 64, size=1),
        inventory=INVENTORY,
        connections={},
        request=SimpleNamespace(check=check),
        run=SimpleNamespace(stage=lambda *_: nullcontext({NODE.name: {}})),
        identities={},
        outcome=SimpleNamespace(preflight=()),
        progress=SimpleNamespace(note=told.append),
        _size=lambda: 1,
        _shared=lambda: 0,
        _ask=lambda _: told.append("and goes on"),
    )
    Installation._preflight(installation)
    (note,) = [line for line in told if "netplan-taken-over" in line]
    assert "routes at /etc/netplan/50-cloud-init.yaml:7:7" in note
    assert "come back if the change is not confirmed" in note
    assert told[-1] == "and goes on"
