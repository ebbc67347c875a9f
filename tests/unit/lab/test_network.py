"""Reading the operator's side, and telling a lab's interfaces from a stranger's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appliance.lab.network import is_strangers, links_of, networks_in
from appliance.lab.plan import Lab

LAB = Lab("ward", 7, 2, "0123456789", (4, 4026531840), Path("/cache/abc/root"))
BRIDGE = {"ifname": "alab-7", "address": LAB.bridge_mac}
CABLE_1 = {"ifname": "alab-7-11", "address": "4a:00:00:00:00:01", "master": "alab-7"}
CABLE_2 = {"ifname": "alab-7-12", "address": "4a:00:00:00:00:02", "master": "alab-7"}
LOOSE_2 = {"ifname": "alab-7-12", "address": "4a:00:00:00:00:02"}
UPLINK = {"ifname": "eth0", "address": "52:54:00:00:00:01"}


def test_addresses_and_routes_are_in_use_and_default_routes_are_not() -> None:
    addresses = [
        {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "addr_info": [{"local": "fd00::2", "prefixlen": 64}, {}]},
        {"ifname": "eth1"},
    ]
    routes = [{"dst": "default"}, {"dst": "10.0.0.0/8"}, {"dst": "10.77.3.1"}]
    assert networks_in(addresses, routes) == ["127.0.0.1/8", "fd00::2/64", "10.0.0.0/8", "10.77.3.1"]


@pytest.mark.parametrize(
    ("links", "removed"),
    [
        ([UPLINK], []),
        ([UPLINK, BRIDGE], ["alab-7"]),
        ([BRIDGE, CABLE_1, CABLE_2, UPLINK], ["alab-7-11", "alab-7-12", "alab-7"]),
        ([BRIDGE, CABLE_1, LOOSE_2], ["alab-7-11", "alab-7-12", "alab-7"]),
        ([LOOSE_2], ["alab-7-12"]),
        ([BRIDGE, {**CABLE_1, "master": "br0"}], ["alab-7"]),
    ],
    ids=["nothing", "bridge", "whole", "half-plugged", "unplugged", "moved-cable"],
)
def test_only_the_labs_own_interfaces_are_its_interfaces(
    links: list[dict[str, Any]], removed: list[str]
) -> None:
    assert links_of(links, LAB, LAB.segments[0]) == removed


def test_a_bridge_is_known_by_its_address() -> None:
    assert is_strangers([UPLINK, {**BRIDGE, "address": "02:ff:ff:ff:ff:ff"}], LAB.segments[0])
    assert not is_strangers([UPLINK, BRIDGE], LAB.segments[0])
    assert not is_strangers([UPLINK], LAB.segments[0])
