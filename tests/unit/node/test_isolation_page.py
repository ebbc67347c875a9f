"""The table of bad input in docs/isolation.md: each is tried, and refused by the name the page gives."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import InventoryInvalid, PreflightFailed
from appliance.node.checks import Wanted, node_checks
from appliance.node.preflight import NodeReport, notes, refuse
from tests.unit.definition import test_inventory_flows, test_inventory_links
from tests.unit.node.test_checks import GATEWAY, card
from tests.unit.node.test_network_checks import INVENTORY, NODE, PRESENT, renamed, small, without

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.manifest import Manifest

PAGE = Path(__file__).parents[3] / "docs/isolation.md"
PATH = Path("/site/inventory.yml")
FLOWS, LINKS = test_inventory_flows.VALID, test_inventory_links.VALID
TWO = '["10.20.0.0/28", "10.21.0.0/28"]'

#: What is written: the inventory, what in it is replaced, and by what.
WRITTEN: dict[str, tuple[str, str, str]] = {
    "two nodes with one address": (FLOWS, '["10.20.0.12/24"]', '["10.20.0.11/24"]'),
    "two nodes with one MAC address": (FLOWS, "00:00:00:11", "00:00:00:01"),
    "a VLAN on a missing parent": (LINKS, "link: data\n", "link: date\n"),
    "a VLAN on a member of a bond": (LINKS, "link: data\n", "link: data0\n"),
    "a bond of a missing card": (LINKS, "[data0, data1]", "[data0, data7]"),
    "a card by its place in order of discovery": (LINKS, "name: ens9", "name: eth1"),
    "a flow with everybody": (FLOWS, '["10.60.0.10"]', '["0.0.0.0/0"]'),
    "a flow with everybody, IPv6": (FLOWS, '["10.60.0.10"]', '["::/0"]'),
    "a flow with a network": (FLOWS, '["10.60.0.10"]', '["10.60.0.8/30"]'),
    "a flow with a management network": (FLOWS, '["10.20.0.60"]', '["10.20.0.9"]'),
    "a flow that is a way to names": (FLOWS, "ports: [123]", "ports: [53]"),
    "a flow into SSH": (FLOWS, ", 4791]", ", 22]"),
    "management networks without the operator": (LINKS, TWO, '["10.20.9.0/28", "10.21.0.0/28"]'),
    "a management network of everything": (LINKS, TWO, '["0.0.0.0/0"]'),
    "everything, in pieces": (LINKS, TWO, '["0.0.0.0/1", "128.0.0.0/1"]'),
    "an operator that the node cannot answer": (LINKS, '"10.20.0.11/24"]', '"10.20.0.11/29"]'),
    "a gateway": (LINKS, "      spare:\n", "      spare:\n        gateway4: 10.90.0.1\n"),
    "a route to everywhere": (LINKS, '"10.40.0.0/16"', '"0.0.0.0/0"'),
    "a route to half of everything": (LINKS, '"10.40.0.0/16"', '"128.0.0.0/1"'),
    "an address that the node does not get": (LINKS, 'address: "10.20.0.11"', 'address: "10.20.0.12"'),
}

OLD = {**PRESENT["packages"], "netplan.io": "0.105-0ubuntu2"}


def lacking(name: str) -> dict[str, str]:
    """Packages of a node, of a bundle that has none of them, but for one."""
    return {each: version for each, version in PRESENT["packages"].items() if each != name}


#: What is found on the node: facts that differ from those of a fit one.
FOUND: dict[str, dict[str, Any]] = {
    "an unknown MAC address": {"interfaces": without("eno1")},
    "a card that is not plugged in": {"interfaces": without("ens3f0np0")},
    "a card with smaller packets": {"interfaces": small("ens3f1np1")},
    "a kernel without VLANs": {"modules": {"bond": True, "vlan": False}},
    "a kernel without bonds": {"modules": {"bond": False, "vlan": True}},
    "a card that bears a bond's name": {
        "interfaces": [*PRESENT["interfaces"], card("data", "02:00:00:00:00:09")]
    },
    "two cards that may change their names": {"interfaces": renamed({"eno1": "eth0", "ens3f0np0": "eth1"})},
    "netplan older than needed": {"packages": OLD},
    "netplan neither there nor in the bundle": {"packages": lacking("netplan.io")},
    "ufw neither there nor in the bundle": {"packages": lacking("ufw")},
    "nftables neither there nor in the bundle": {"packages": lacking("nftables")},
    "a package's netplan file with a gateway": {"netplan": {"/usr/lib/netplan/00-vendor.yaml": GATEWAY}},
    "an nftables service": {"filter_units": {"nftables.service": "enabled active"}},
    "another packet filter": {"filter_units": {"docker.service": "active"}},
    "a station from another address": {"connection": ["10.20.0.99", "50000", "10.20.0.11", "22"]},
}

#: What is told before any change, and taken over.
TOLD = {"somebody's netplan file with a gateway": {"netplan": {"/etc/netplan/50-cloud-init.yaml": GATEWAY}}}


@pytest.fixture(scope="module")
def manifest(pristine_bundle: Path) -> Manifest:
    """Of a bundle without ufw, nftables and netplan."""
    return parse_manifest((pristine_bundle / "manifest.json").read_bytes())


def report(manifest: Manifest, changed: dict[str, Any]) -> NodeReport:
    facts = copy.deepcopy(PRESENT) | changed
    return NodeReport(
        NODE, tuple(node_checks(NODE, facts, Wanted(manifest, "d" * 64, 1000, INVENTORY, 1e6)))
    )


def rows(manifest: Manifest) -> Iterator[str]:
    """The table, made by trying."""
    yield "| input | refused as | exit | in | found | wanted |"
    yield "|---|---|---|---|---|---|"
    for what, (text, old, new) in WRITTEN.items():
        assert old in text
        with pytest.raises(InventoryInvalid) as caught:
            parse_inventory(text.replace(old, new, 1), PATH)
        error = caught.value
        assert error.where is not None, what
        yield row(what, f"`{type(error).__name__}`", error.exit_code, "validate", error.found, error.wanted)
    for what, changed in FOUND.items():
        looked = report(manifest, changed)
        with pytest.raises(PreflightFailed) as failed:
            refuse([looked])
        (check,) = [each for each in looked.checks if each.stops]
        assert check.hint
        found, wanted = check.found, check.wanted
        yield row(what, f"check `{check.name}`", failed.value.exit_code, "preflight", found, wanted)
    for what, changed in TOLD.items():
        looked = report(manifest, changed)
        refuse([looked])
        (note,) = notes([looked])
        (check,) = [each for each in looked.checks if each.name in note]
        yield row(what, f"told by `{check.name}`", "none", "preflight", check.found, check.wanted)


def row(*cells: object) -> str:
    """One row; a message of several sentences stands as it is."""
    assert all(cells), cells
    return "| " + " | ".join(re.sub(r"\s+", " ", str(each)).replace("|", "\\|") for each in cells) + " |"


def test_a_fit_node_and_a_whole_inventory_are_refused_by_nothing(manifest: Manifest) -> None:
    for text in (FLOWS, LINKS):
        parse_inventory(text, PATH)
    refuse([report(manifest, {})])
    assert notes([report(manifest, {})]) == []


def test_the_page_says_by_which_name_bad_input_is_refused(manifest: Manifest) -> None:
    page = PAGE.read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- table: bad input -->\n\n")
    said = rest.partition("\n\n")[0].splitlines()
    made = list(rows(manifest))
    assert said == made, "write this into docs/isolation.md:\n" + "\n".join(made)
