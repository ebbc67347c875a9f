"""Bonds, VLANs, packet sizes and listed routes: what is written, what differs, what is done."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

INTERFACES: list[dict[str, Any]] = [
    {
        "name": "mgmt",
        "match": {"name": "eno1"},
        "addresses": ["10.20.0.11/24"],
        "routes": [{"to": "10.21.0.0/28", "via": "10.20.0.2"}, {"to": "10.22.0.9/32", "via": "10.20.0.2"}],
    },
    {"name": "data0", "match": {"pci": "0000:5E:00.0"}, "addresses": []},
    {"name": "data1", "match": {"mac": "02:00:00:00:00:03"}, "addresses": []},
    {
        "name": "data",
        "addresses": ["10.30.0.11/24", "fd30::11/64"],
        "mtu": 9000,
        "link_local": True,
        "routes": [{"to": "fd40::/48", "via": "fd30::1"}],
        "bond": {"interfaces": ["data0", "data1"], "mode": "802.3ad", "lacp_rate": "fast"},
    },
    {"name": "storage", "addresses": ["10.50.0.11/24"], "vlan": {"id": 120, "link": "data"}},
]


@pytest.fixture(scope="module")
def module(role_module: Callable[[str], Any]) -> Any:
    return role_module("network_isolation/library/static_network.py")


@pytest.fixture(scope="module")
def plan(module: Any) -> Any:
    return sys.modules[module.differences.__module__]


@pytest.fixture
def cards(plan: Any) -> tuple[Any, ...]:
    """A node as it was delivered."""
    return (
        plan.Link("eno1", "02:00:00:00:00:01", hardware=True, pci="0000:18:00.0", mtu=1500),
        plan.Link("ens3f0np0", "02:00:00:00:00:02", hardware=True, pci="0000:5e:00.0", mtu=1500),
        plan.Link("ens3f1np1", "02:00:00:00:00:03", hardware=True, pci="0000:5e:00.1", mtu=1500),
    )


@pytest.fixture
def wanted(plan: Any, cards: Any) -> Any:
    links = plan.wanted_links(plan.resolve(INTERFACES, cards))
    return plan.Wanted(files={}, settings={}, services_on=(), services_off=(), **links)


@pytest.fixture
def observed(plan: Any, cards: Any) -> Any:
    """The same node when nothing is to be done."""
    mgmt, *data = cards
    return plan.Observed(
        links=(
            replace(mgmt, addresses=("10.20.0.11/24",)),
            *(replace(card, master="data", mtu=9000) for card in data),
            plan.Link(
                "data",
                "02:00:00:00:00:02",
                hardware=False,
                addresses=("10.30.0.11/24", "fd30::11/64", "fe80::1/64"),
                made="bond 802.3ad lacp fast hash layer2",
                mtu=9000,
            ),
            plan.Link("storage", "", hardware=False, addresses=("10.50.0.11/24",), made="vlan 120 on data"),
        ),
        routes=(
            "-4 10.21.0.0/28 via 10.20.0.2 dev eno1 table main",
            "-4 10.22.0.9 via 10.20.0.2 dev eno1",
            "-6 fd40::/48 via fd30::1 dev data table main metric 1024",
        ),
    )


def test_a_node_that_is_as_wanted_is_left_alone(plan: Any, wanted: Any, observed: Any) -> None:
    assert plan.differences(wanted, observed) == []


def test_a_node_as_delivered_lacks_bond_vlan_and_routes(plan: Any, wanted: Any, cards: Any) -> None:
    """Addresses of what is not made yet are missing too: no leftover goes before they come."""
    found = plan.differences(wanted, plan.Observed(links=cards))
    assert [(item.kind, item.subject) for item in found] == [
        ("device", "data"),
        ("device", "storage"),
        ("master", "ens3f0np0"),
        ("master", "ens3f1np1"),
        ("address", "eno1 10.20.0.11/24"),
        ("address", "data 10.30.0.11/24"),
        ("address", "data fd30::11/64"),
        ("address", "storage 10.50.0.11/24"),
        ("listed", "-4 10.21.0.0/28 via 10.20.0.2 dev eno1"),
        ("listed", "-4 10.22.0.9 via 10.20.0.2 dev eno1"),
        ("listed", "-6 fd40::/48 via fd30::1 dev data"),
    ]


def change(observed: Any, name: str, **values: Any) -> Any:
    links = tuple(replace(link, **values) if link.name == name else link for link in observed.links)
    return replace(observed, links=links)


@pytest.mark.parametrize(
    ("name", "values", "kind", "told"),
    [
        ("data", {"made": "bond active-backup"}, "device", "bond 802.3ad lacp fast hash layer2"),
        ("storage", {"made": "vlan 121 on data"}, "device", "vlan 120 on data"),
        ("ens3f0np0", {"master": ""}, "master", "data"),
        ("ens3f0np0", {"master": "br0"}, "master", "data"),
        ("eno1", {"master": "br0"}, "master", ""),
        ("data", {"mtu": 1500}, "mtu", "9000"),
    ],
)
def test_one_link_that_is_not_as_wanted(
    plan: Any, wanted: Any, observed: Any, *, name: str, values: dict[str, Any], kind: str, told: str
) -> None:
    (found,) = plan.differences(wanted, change(observed, name, **values))
    assert (found.kind, found.subject, found.wanted) == (kind, name, told)


def test_a_bond_or_vlan_of_nobody_goes(plan: Any, wanted: Any, observed: Any) -> None:
    stale = plan.Link(
        "bond0", "02:00:00:00:00:02", hardware=False, made="bond 802.3ad lacp slow hash layer2"
    )
    (found,) = plan.differences(wanted, replace(observed, links=(*observed.links, stale)))
    assert (found.kind, found.subject, found.wanted) == ("device", "bond0", "")


def test_a_link_local_address_is_left_where_it_was_asked_for_only(
    plan: Any, wanted: Any, observed: Any
) -> None:
    (found,) = plan.differences(
        wanted, change(observed, "storage", addresses=("10.50.0.11/24", "fe80::1/64"))
    )
    assert (found.kind, found.subject) == ("surplus", "storage fe80::1/64")


def test_a_route_that_is_not_listed_goes_and_another_metric_is_another_route(
    plan: Any, wanted: Any, observed: Any
) -> None:
    routes = ("-4 default via 10.20.0.2 dev eno1", *observed.routes[:2], f"{observed.routes[2][:-4]}5")
    found = plan.differences(wanted, replace(observed, routes=routes))
    assert [(item.kind, item.subject) for item in found] == [
        ("listed", "-6 fd40::/48 via fd30::1 dev data"),
        ("route", "-4 default via 10.20.0.2 dev eno1"),
        ("route", "-6 fd40::/48 via fd30::1 dev data table main metric 5"),
    ]


@pytest.mark.parametrize(
    ("interfaces", "told"),
    [
        (
            [{"name": "x", "match": {"pci": "0000:99:00.0"}, "addresses": []}],
            "0 interfaces of this node match",
        ),
        ([{"name": "eno1", "addresses": [], "vlan": {"id": 1, "link": "y"}}], "eno1 cannot be made"),
        ([*INTERFACES[:2], {**INTERFACES[1], "name": "again"}], "data0 and again are both ens3f0np0"),
    ],
)
def test_what_cannot_be_had_is_named(plan: Any, cards: Any, interfaces: Any, told: str) -> None:
    with pytest.raises(plan.Impossible, match=told):
        plan.resolve(interfaces, cards)


def test_a_bond_that_is_there_is_not_taken_for_its_card(plan: Any) -> None:
    """A veth in a bond has no device behind it, and the bond bears its address."""
    bond = plan.Link("data", "02:00:00:00:00:09", hardware=False, made="bond active-backup")
    veth = plan.Link("host1", "02:00:00:00:00:09", hardware=False, master="data")
    wanted = {"name": "data0", "match": {"mac": "02:00:00:00:00:09"}, "addresses": []}
    ((_, link),) = plan.resolve([wanted], (bond, veth))
    assert link.name == "host1"


def test_the_netplan_file_of_bonds_vlans_and_routes(plan: Any, module: Any, cards: Any) -> None:
    network = yaml.safe_load(module.netplan_text(plan.resolve(INTERFACES, cards)))["network"]
    quiet = {"dhcp4": False, "dhcp6": False, "accept-ra": False, "optional": True, "ignore-carrier": True}
    assert network["ethernets"]["data0"] == {
        "match": {"macaddress": "02:00:00:00:00:02"},
        "set-name": "ens3f0np0",
        "link-local": [],
        **quiet,
    }
    assert network["ethernets"]["mgmt"]["routes"] == [
        {"to": "10.21.0.0/28", "via": "10.20.0.2"},
        {"to": "10.22.0.9/32", "via": "10.20.0.2"},
    ]
    assert network["bonds"] == {
        "data": {
            "interfaces": ["data0", "data1"],
            "parameters": {"mode": "802.3ad", "lacp-rate": "fast", "mii-monitor-interval": 100},
            "link-local": ["ipv6"],
            "mtu": 9000,
            "addresses": ["10.30.0.11/24", "fd30::11/64"],
            "routes": [{"to": "fd40::/48", "via": "fd30::1"}],
            **quiet,
        }
    }
    assert network["vlans"] == {
        "storage": {"id": 120, "link": "data", "link-local": [], "addresses": ["10.50.0.11/24"], **quiet}
    }


# As iproute2 6.1 writes them with -json -details, cut to what is read; of a card in a bond, of the bond on
# it, and of a VLAN on that.
LISTING: list[dict[str, Any]] = [
    {
        "ifname": "ens3f0np0",
        "flags": ["BROADCAST", "MULTICAST", "SLAVE", "UP", "LOWER_UP"],
        "mtu": 9000,
        "master": "data",
        "address": "02:aa:aa:aa:aa:aa",
        "permaddr": "02:00:00:00:00:02",
        "linkinfo": {"info_slave_kind": "bond", "info_slave_data": {"state": "ACTIVE"}},
        "addr_info": [],
    },
    {
        "ifname": "data",
        "flags": ["BROADCAST", "MULTICAST", "MASTER", "UP"],
        "mtu": 9000,
        "address": "02:aa:aa:aa:aa:aa",
        "linkinfo": {
            "info_kind": "bond",
            "info_data": {"mode": "802.3ad", "ad_lacp_rate": "fast", "xmit_hash_policy": "layer3+4"},
        },
        "addr_info": [{"local": "10.30.0.11", "prefixlen": 24}],
    },
    {
        "ifname": "storage",
        "link": "data",
        "flags": ["BROADCAST", "MULTICAST", "UP"],
        "mtu": 9000,
        "address": "02:aa:aa:aa:aa:aa",
        "linkinfo": {"info_kind": "vlan", "info_data": {"protocol": "802.1Q", "id": 120}},
        "addr_info": [],
    },
]


def test_links_as_the_kernel_tells_them(module: Any) -> None:
    paths = {"ens3f0np0": "/sys/devices/pci0000:5d/0000:5d:02.0/0000:5e:00.0", "data": "", "storage": ""}
    card, bond, vlan = module.node.parse_links(json.dumps(LISTING), paths.__getitem__)
    assert (card.mac, card.pci, card.master) == ("02:00:00:00:00:02", "0000:5e:00.0", "data")
    assert (bond.made, bond.mtu) == ("bond 802.3ad lacp fast hash layer3+4", 9000)
    assert vlan.made == "vlan 120 on data"


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/sys/devices/pci0000:00/0000:00:01.0/0000:18:00.1", "0000:18:00.1"),
        ("/sys/devices/pci0000:00/0000:00:03.0/virtio0", "0000:00:03.0"),
        ("/sys/devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0", ""),
        ("/sys/devices/platform/soc/ethernet0", ""),
        ("", ""),
    ],
)
def test_the_pci_function_behind_an_interface(module: Any, path: str, address: str) -> None:
    assert module.node.pci_address(path) == address


def test_links_are_cleared_before_networkd_makes_them_anew(
    plan: Any, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A VLAN before the bond below it, and a card out of its bridge."""
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(module.node, "run", lambda *command: ran.append(command))
    monkeypatch.setattr(module.node, "_try", lambda *command: ran.append(command))
    found = [
        plan.Difference("device", "bond0", "bond active-backup", ""),
        plan.Difference("device", "bond0.5", "vlan 5 on bond0", ""),
        plan.Difference("device", "data", "", "bond 802.3ad lacp slow hash layer2"),
        plan.Difference("master", "eno1", "br0", ""),
        plan.Difference("master", "ens3f0np0", "", "data"),
    ]
    assert module.node.clear_links(found) is True
    assert ran == [
        ("ip", "link", "set", "dev", "eno1", "nomaster"),
        ("ip", "link", "del", "dev", "bond0.5"),
        ("ip", "link", "del", "dev", "bond0"),
    ]
    assert (
        module.node.clear_links([plan.Difference("address", "eno1 10.0.0.1/24", "", "10.0.0.1/24")])
        is False
    )
    ran.clear()
    module.node.configure(["eno1"], anew=True)
    assert ran[-1] == ("systemctl", "restart", "systemd-networkd.service")


@pytest.mark.parametrize(
    ("name", "values", "removed"),
    [
        ("eno1", {"addresses": ("10.20.0.11/24", "10.9.9.9/8")}, True),
        ("data", {"made": ""}, False),
        ("data", {"mtu": 1500}, False),
        ("ens3f0np0", {"master": ""}, False),
        ("storage", {"addresses": ()}, False),
    ],
)
def test_nothing_left_over_goes_before_everything_wanted_is_there(
    module: Any,
    wanted: Any,
    observed: Any,
    monkeypatch: pytest.MonkeyPatch,
    *,
    name: str,
    values: dict[str, Any],
    removed: bool,
) -> None:
    """The address that the operator is connected to may be such a leftover."""
    left = replace(observed, routes=(*observed.routes, "-4 default via 10.20.0.2 dev eno1"))
    monkeypatch.setattr(module.node, "observe", lambda _: change(left, name, **values))
    ran: list[str] = []
    monkeypatch.setattr(module.node, "remove_leftover", lambda item: ran.append(item.kind))
    with pytest.raises(
        sys.modules[module.differences.__module__].Impossible, match="still not as declared"
    ):
        module.remove_leftovers({"settle": 0}, wanted)
    assert ("route" in ran) is removed


def test_networkd_turns_the_making_of_link_local_addresses_on_where_asked(
    plan: Any, module: Any, cards: Any
) -> None:
    parameters = {
        "files_if_folder": {},
        "files": {},
        "netplan": "/n.yaml",
        "services_on": [],
        "services_off": [],
    }
    settings = {"ipv6/conf/*/addr_gen_mode": "1"}
    wanted = module.wanted_network({**parameters, "settings": settings}, plan.resolve(INTERFACES, cards))
    names = ("eno1", "data")
    values = [plan.wanted_setting(wanted.settings, f"ipv6/conf/{name}/addr_gen_mode") for name in names]
    assert values == ["1", "0"]
