"""Bonds, VLANs, MTU and listed routes: what is wrong is refused at its place."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from appliance.definition.inventory import Bond, Route, Vlan, node_values
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import GatewayForbidden, InventoryInvalid

PATH = Path("/site/inventory.yml")

VALID = """\
format: 1
site: example
management:
  networks: ["10.20.0.0/28", "10.21.0.0/28"]
  operator: ["10.20.0.1", "10.21.0.1"]
ssh:
  known_hosts: known_hosts
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24"]
        routes:
          - {to: "10.21.0.0/28", via: "10.20.0.2"}
      data0:
        match: {pci: "0000:5E:00.0"}
      data1:
        match: {pci: "0000:5e:00.1"}
      spare:
        match: {name: ens9}
        addresses: ["10.90.0.11/24"]
    bonds:
      data:
        interfaces: [data0, data1]
        mode: 802.3ad
        lacp_rate: fast
        transmit_hash_policy: layer3+4
        mtu: 9000
        link_local: true
        addresses: ["10.30.0.11/24", "fd30::11/64"]
        routes:
          - {to: "10.40.0.0/16", via: "10.30.0.1"}
          - {to: "fd40::/48", via: "fd30::1"}
    vlans:
      storage:
        id: 120
        link: data
        mtu: 9000
        addresses: ["10.50.0.11/24"]
"""

# what is replaced, by what, line and column of the complaint, words of the message
CATALOGUE = {
    "PCI address twice": (':5e:00.1"}', ':5e:00.0"}', 20, 22, "same pci"),
    "member that is nowhere": ("[data0, data1]", "[data0, data7]", 26, 29, "no interface of gpu-01"),
    "member that is the bond": ("[data0, data1]", "[data0, data]", 26, 29, "no interface of gpu-01"),
    "member twice": ("[data0, data1]", "[data0, data0]", 26, 29, "cannot be in data and in data"),
    "bond of none": ("[data0, data1]", "[]", 26, 21, "at least one"),
    "member with an address": ("[data0, data1]", "[data0, spare]", 23, 9, "no addresses of its own"),
    "member with an MTU": (
        '"0000:5e:00.1"}',
        '"0000:5e:00.1"}\n        mtu: 9000',
        *(21, 9, "no mtu of its own"),
    ),
    "mode without a switch's consent": ("mode: 802.3ad", "mode: balance-rr", 27, 15, "mode"),
    "LACP without LACP": ("mode: 802.3ad", "mode: balance-xor", 28, 20, "lacp_rate means nothing"),
    "hash over one card": (
        "mode: 802.3ad\n        lacp_rate: fast",
        "mode: active-backup",
        *(28, 31, "transmit_hash_policy means nothing"),
    ),
    "MTU below IPv6": (
        "        mtu: 9000\n        link_local",
        "        mtu: 576\n        link_local",
        30,
        14,
        "mtu",
    ),
    "bond with a name too long": ("      data:\n", "      a-bond-with-a-long-name:\n", 25, 7, "not a name"),
    "bond called like a card": (
        "      data:\n",
        "      spare:\n",
        25,
        7,
        "both in interfaces and in bonds",
    ),
    "VLAN that the kernel means otherwise": (
        "      storage:\n",
        "      all:\n",
        *(37, 7),
        "word of the kernel",
    ),
    "VLAN on a missing parent": (
        "link: data\n",
        "link: date\n",
        *(39, 15),
        "wants to be on date, which is no",
    ),
    "VLAN on a member": ("link: data\n", "link: data0\n", 39, 15, "a member of a bond"),
    "VLAN on itself": ("link: data\n", "link: storage\n", 39, 15, "no interface or bond"),
    "VLAN id 0": ("id: 120", "id: 0", 38, 13, "id"),
    "VLAN id 4095": ("id: 120", "id: 4095", 38, 13, "id"),
    "VLAN larger than its parent": (
        "mtu: 9000\n        link_local",
        "mtu: 8000\n        link_local",
        *(40, 14),
        "carry more",
    ),
    "nothing to do": (
        '        addresses: ["10.50.0.11/24"]\n',
        "",
        *(38, 9),
        "storage of gpu-01 has no address",
    ),
    "route by a router elsewhere": ('via: "10.30.0.1"', 'via: "10.31.0.1"', 34, 39, "not on its wire"),
    "route by the node itself": ('via: "10.30.0.1"', 'via: "10.30.0.11"', 34, 39, "the node itself"),
    "route by the other family": ('via: "10.30.0.1"', 'via: "fd30::1"', 34, 39, "other family"),
    "route over itself": ('to: "10.40.0.0/16"', 'to: "10.30.0.128/25"', 34, 18, "reaches already"),
    "route over another interface": ('to: "10.40.0.0/16"', 'to: "10.50.0.0/25"', 34, 18, "reaches already"),
    "route over another route": ('to: "10.40.0.0/16"', 'to: "10.21.0.0/24"', 34, 18, "reaches already"),
    "route to loopback": ('to: "10.40.0.0/16"', 'to: "127.9.0.0/16"', 34, 18, "stay where they are"),
    "route with host bits": ('to: "10.40.0.0/16"', 'to: "10.40.0.1/16"', 34, 18, "host bits"),
    "route without a router": (', via: "10.30.0.1"', "", 34, 13, "via is missing"),
    "route with a metric": (', via: "10.30.0.1"', ', via: "10.30.0.1", metric: 5', 34, 52, "unknown key"),
    "operator behind no route": (
        '        routes:\n          - {to: "10.21.0.0/28", via: "10.20.0.2"}\n      data0',
        "      data0",
        *(10, 14, "could not answer"),
    ),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_a_wrong_link_is_refused_at_its_place(case: str) -> None:
    old, new, line, column, words = CATALOGUE[case]
    text = VALID.replace(old, new, 1)
    assert text != VALID
    if case == "operator behind no route":
        text = text.replace('["10.20.0.1", "10.21.0.1"]', '["10.21.0.1"]')
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(text, PATH)
    error = caught.value
    assert words in error.message
    assert error.where is not None
    assert (error.where.line, error.where.column) == (line, column), error.message
    assert error.exit_code == 3


@pytest.mark.parametrize(
    "destination",
    ["default", "0.0.0.0/0", "::/0", "any", "Default", "0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/7"],
)
def test_a_route_to_everywhere_or_half_of_it_is_a_gateway(destination: str) -> None:
    with pytest.raises(GatewayForbidden) as caught:
        parse_inventory(VALID.replace('"10.40.0.0/16"', f'"{destination}"'), PATH)
    assert caught.value.where is not None
    assert (caught.value.where.line, caught.value.where.column) == (34, 18)


@pytest.mark.parametrize("destination", ["2000::/3", "::/1", "fc00::/7"])
def test_the_same_of_ipv6(destination: str) -> None:
    with pytest.raises(GatewayForbidden):
        parse_inventory(VALID.replace('"fd40::/48"', f'"{destination}"'), PATH)


def test_a_gateway_in_pieces_is_a_gateway() -> None:
    """Two halves, or any number of neighbours that are too wide together, whichever interface has them."""
    halves = VALID.replace('{to: "10.40.0.0/16", via: "10.30.0.1"}', '{to: "64.0.0.0/8", via: "10.30.0.1"}')
    assert parse_inventory(halves, PATH)
    with pytest.raises(GatewayForbidden, match=r"with the others: 64\.0\.0\.0/7"):
        parse_inventory(
            halves + '        routes: [{to: "65.0.0.0/8", via: "10.50.0.1"}]\n',
            PATH,
        )


@pytest.mark.parametrize("place", ["    bonds:\n", "    vlans:\n", "nodes:\n", "        mode: 802.3ad\n"])
def test_routes_are_an_interfaces_and_nobody_elses(place: str) -> None:
    """At a bond, which may have them, the key twice is refused; elsewhere it is a way out."""
    indent = place[: len(place) - len(place.lstrip())]
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(VALID.replace(place, f"{indent}routes: []\n{place}", 1), PATH)
    assert isinstance(caught.value, GatewayForbidden) is ("mode" not in place)


@pytest.mark.parametrize("place", ["        id: 120\n", "        mode: 802.3ad\n", "          - {to"])
@pytest.mark.parametrize("key", ["gateway4", "nameservers", "dhcp4", "accept-ra"])
def test_a_way_out_is_forbidden_in_bonds_vlans_and_routes(key: str, place: str) -> None:
    new = f"          - {{{key}: x, to" if place.endswith("{to") else f"        {key}: x\n{place}"
    with pytest.raises(GatewayForbidden):
        parse_inventory(VALID.replace(place, new, 1), PATH)


def test_a_bond_may_be_called_gateway() -> None:
    text = VALID.replace("      data:\n", "      gateway:\n").replace("link: data", "link: gateway")
    assert parse_inventory(text, PATH)[0].nodes[0].interfaces[4].name == "gateway"


def test_everything_comes_through_with_its_values() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    node = inventory.nodes[0]
    links = {each.name: each for each in node.interfaces}
    assert list(links) == ["mgmt", "data0", "data1", "spare", "data", "storage"]
    assert links["data0"].match.pci == "0000:5e:00.0"
    assert links["data"].bond == Bond(("data0", "data1"), "802.3ad", "fast", "layer3+4")
    assert (links["data"].mtu, links["data"].link_local) == (9000, True)
    assert links["data"].routes[0] == Route(ip_network("10.40.0.0/16"), ip_address("10.30.0.1"))
    assert links["storage"].vlan == Vlan(120, "data")
    assert [str(each) for each in links["data"].reach] == [
        *("10.30.0.0/24", "fd30::/64", "10.40.0.0/16", "fd40::/48"),
    ]


def test_roles_receive_what_was_asked_for_and_nothing_else() -> None:
    """What an older inventory does not have does not appear, so its settings keep their digest."""
    inventory, _ = parse_inventory(VALID, PATH)
    values = {each["name"]: each for each in node_values(inventory.nodes[0])["interfaces"]}  # type: ignore[attr-defined]
    assert values["spare"] == {"name": "spare", "match": {"name": "ens9"}, "addresses": ["10.90.0.11/24"]}
    assert values["data0"] == {"name": "data0", "match": {"pci": "0000:5e:00.0"}, "addresses": []}
    assert values["storage"] == {
        "name": "storage",
        "addresses": ["10.50.0.11/24"],
        "mtu": 9000,
        "vlan": {"id": 120, "link": "data"},
    }
    assert values["data"]["routes"] == [
        {"to": "10.40.0.0/16", "via": "10.30.0.1"},
        {"to": "fd40::/48", "via": "fd30::1"},
    ]
    assert values["data"]["bond"] == {
        "interfaces": ["data0", "data1"],
        "mode": "802.3ad",
        "lacp_rate": "fast",
        "transmit_hash_policy": "layer3+4",
    }
