"""What a node with bonds, VLANs and listed routes says of itself, judged."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.definition.inventory import Interface, Match
from appliance.definition.inventory_schema import parse_inventory
from appliance.node.qualification import links, routes
from appliance.node.qualification.subject import Bundle, describe, load_subject
from tests.unit.definition.test_inventory_links import VALID

if TYPE_CHECKING:
    from collections.abc import Callable

INVENTORY, _ = parse_inventory(VALID, Path("/site/inventory.yml"))
NODE = INVENTORY.nodes[0]

# Two cards are in a bond, so their addresses are the bond's; their permanent ones are told beside.
CARDS = """\
ens3f0np0 /sys/devices/pci0000:5d/0000:5d:02.0/0000:5e:00.0
ens3f1np1 /sys/devices/pci0000:5d/0000:5d:02.0/0000:5e:00.1
eno1 /sys/devices/pci0000:00/0000:18:00.0
usb0 /sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0
data
storage
"""
PCI = links.cards(CARDS)


def link(name: str, address: str, *addresses: str, **more: Any) -> dict[str, Any]:
    rows = [dict(zip(("local", "prefixlen"), each.split("/"), strict=True)) for each in addresses]
    rows = [{**row, "prefixlen": int(row["prefixlen"])} for row in rows]
    return {
        "ifname": name,
        "link_type": "ether",
        "mtu": 1500,
        "address": address,
        "addr_info": rows,
        **more,
    }


SHARED = "02:aa:aa:aa:aa:aa"
LINKS = [
    link("eno1", "02:00:00:00:00:01", "10.20.0.11/24"),
    link("ens3f0np0", SHARED, permaddr="02:00:00:00:00:02", master="data"),
    link("ens3f1np1", SHARED, permaddr="02:00:00:00:00:03", master="data"),
    link("ens9", "02:00:00:00:00:04", "10.90.0.11/24"),
    link(
        *("data", SHARED, "10.30.0.11/24", "fd30::11/64", "fe80::1/64"),
        mtu=9000,
        linkinfo={"info_kind": "bond", "info_data": {"mode": "802.3ad"}},
    ),
    link(
        *("storage", SHARED, "10.50.0.11/24"),
        mtu=9000,
        link="data",
        linkinfo={"info_kind": "vlan", "info_data": {"id": 120}},
    ),
]
ROUTES = [
    {"dst": "10.20.0.0/24", "dev": "eno1", "protocol": "kernel"},
    {"dst": "10.21.0.0/28", "gateway": "10.20.0.2", "dev": "eno1", "protocol": "static"},
    {"dst": "10.40.0.0/16", "gateway": "10.30.0.1", "dev": "data", "protocol": "static"},
    {"dst": "fd40::/48", "gateway": "fd30::1", "dev": "data", "metric": 1024},
]


def changed(name: str, change: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    listing = copy.deepcopy(LINKS)
    change(next(each for each in listing if each["ifname"] == name))
    return listing


def test_a_node_as_declared_keeps_its_promises() -> None:
    assert links.judge_links(LINKS, NODE, PCI).kept
    assert routes.judge_addresses(json.dumps(LINKS), NODE, PCI).kept
    assert routes.judge_routes(json.dumps(ROUTES), NODE).kept


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("data", lambda it: it.update(mtu=1500), "data: packets of 1500 bytes, not 9000"),
        (
            "data",
            lambda it: it["linkinfo"]["info_data"].update(mode="active-backup"),
            "data: mode active-backup, not 802.3ad",
        ),
        ("ens3f1np1", lambda it: it.pop("master"), "ens3f1np1: not in the bond data"),
        ("storage", lambda it: it["linkinfo"]["info_data"].update(id=121), "storage: VLAN 121 on data"),
        ("storage", lambda it: it.update(link="ens9"), "storage: VLAN 120 on ens9, not 120 on data"),
        ("storage", lambda it: it.update(ifname="other"), "no interface nothing (storage)"),
        ("storage", lambda it: it.update(ifname="other"), "other: a vlan that is not in the inventory"),
        ("eno1", lambda it: it.update(address="02:00:00:00:00:99"), "no interface MAC address 02:00"),
    ],
)
def test_a_link_that_is_otherwise_is_found(
    name: str, change: Callable[[dict[str, Any]], Any], found: str
) -> None:
    finding = links.judge_links(changed(name, change), NODE, PCI)
    assert not finding.kept
    assert found in finding.found


def test_a_card_on_usb_is_not_at_the_pci_address_of_its_controller() -> None:
    assert "usb0" not in PCI
    assert PCI["ens3f0np0"] == "0000:5e:00.0"


def test_a_card_in_a_bond_is_known_by_its_permanent_address() -> None:
    """And the bond, which bears one of its cards' addresses, is not taken for that card."""
    card = Interface("data1", Match(mac="02:00:00:00:00:03"), ())
    found = links.find_link([*LINKS, link("br0", "02:00:00:00:00:03", linkinfo=BRIDGE)], card, {})
    assert found is not None
    assert found["ifname"] == "ens3f1np1"


BRIDGE = {"info_kind": "bridge"}


def test_a_link_local_address_is_found_where_nobody_asked_for_it() -> None:
    row = {"local": "fe80::9", "prefixlen": 64}
    listing = changed("eno1", lambda it: it["addr_info"].append(row))
    finding = routes.judge_addresses(json.dumps(listing), NODE, PCI)
    assert finding.found == "eno1: fe80::9/64 is link-local, and nobody asked for it"


@pytest.mark.parametrize(
    ("route", "found"),
    [
        ({"dst": "10.40.0.0/16", "gateway": "10.30.0.9", "dev": "data"}, "10.40.0.0/16 via 10.30.0.9"),
        ({"dst": "10.41.0.0/16", "gateway": "10.30.0.1", "dev": "data"}, "10.41.0.0/16 via 10.30.0.1"),
        ({"dst": "10.40.0.0/16", "gateway": "10.30.0.1", "dev": "data", "table": "7"}, "10.40.0.0/16 via"),
        ({"dst": "default", "gateway": "10.30.0.1", "dev": "data"}, "default via 10.30.0.1"),
    ],
)
def test_a_route_that_is_not_exactly_a_listed_one_is_found(route: dict[str, Any], found: str) -> None:
    finding = routes.judge_routes(json.dumps([*ROUTES, route]), NODE)
    assert not finding.kept
    assert finding.found.startswith(found)


def test_a_listed_route_that_is_missing_is_found() -> None:
    finding = routes.judge_routes(json.dumps(ROUTES[:2]), NODE)
    assert finding.found == "10.40.0.0/16 via 10.30.0.1 is missing\nfd40::/48 via fd30::1 is missing"


def test_the_tests_are_told_everything_of_a_node(tmp_path: Path) -> None:
    class NoConnection:
        """Only command lines are asked for."""

        def argv(self, command: str, *_: str) -> tuple[str, ...]:
            return ("ssh", command)

    path = tmp_path / "subject.json"
    path.write_text(describe(INVENTORY, NODE, Bundle("d", "m", "n"), NoConnection()))  # type: ignore[arg-type]
    assert load_subject(path).node == NODE
