"""Three segments for a virtual machine: nothing alike among them, nothing over what is in use."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from appliance.lab.plan import MAX_NODES, SEGMENTS, Lab, choose_segment
from appliance.lab.segments import segment_networks

LAB = Lab("ward", 7, 2, "0123456789", (4, 4026531840), Path("/cache/abc/machine"), machine=True)


def test_a_container_has_one_interface_and_a_machine_three() -> None:
    assert [nic.purpose for nic in Lab("ward", 7, 1, "0" * 10, (4, 5), Path("/r")).nodes[0].nics] == [
        "management"
    ]
    management, export, data = LAB.nodes[0].nics
    assert management.addresses == ("10.77.7.11", "fd77:7::11")
    assert export.addresses == ("10.78.7.11", "fd78:7::11")
    assert (data.purpose, data.mac, data.bridge) == ("data", "02:00:0a:4f:07:0b", "alab-7d")
    assert [segment.bridge for segment in LAB.segments] == ["alab-7", "alab-7e", "alab-7d"]


def test_with_a_bond_there_are_two_cards_on_the_data_segment() -> None:
    node = replace(LAB, bond=True).nodes[0]
    assert node.nics[:2] == LAB.nodes[0].nics[:2]
    first, second = node.nics[2:]
    assert (first.purpose, first.addresses) == ("data", ("10.79.7.11", "fd79:7::11"))
    assert (second.purpose, second.addresses) == ("data2", ())
    assert {first.bridge, second.bridge} == {"alab-7d"}
    assert {first.mtu, second.mtu} == {9000}


def test_no_two_things_of_a_lab_of_machines_are_alike() -> None:
    whole = Lab("ward", 254, MAX_NODES, "0123456789", (4, 5), Path("/r"), machine=True, bond=True)
    nics = [nic for node in whole.nodes for nic in node.nics]
    for attribute in ("mac", "link"):
        assert len({getattr(nic, attribute) for nic in nics}) == len(nics)
    addresses = [address for nic in nics for address in nic.addresses]
    assert len(set(addresses)) == len(addresses)
    assert len({segment.bridge_mac for segment in whole.segments}) == 3
    assert (
        max(len(name) for name in [*(nic.link for nic in nics), *(s.bridge for s in whole.segments)]) <= 15
    )


@pytest.mark.parametrize("purpose", ["management", "export", "data"])
def test_addresses_lie_on_their_segment(purpose: str) -> None:
    networks = segment_networks(7, purpose)
    (segment,) = (each for each in LAB.segments if each.purpose == purpose)
    nics = [nic for node in LAB.nodes for nic in node.nics if nic.purpose == purpose]
    for pair in (segment.operator, segment.foreign, *(nic.addresses for nic in nics)):
        for address, network in zip(pair, networks, strict=True):
            assert ip_address(address) in network
    # A bridge's address is a locally administered one of a single device.
    assert int(segment.bridge_mac[:2], 16) & 3 == 2


@pytest.mark.parametrize("used", ["10.78.1.9/24", "fd79:1::/64"])
def test_machines_need_all_three_networks_free_and_containers_only_the_first(used: str) -> None:
    assert choose_segment([used], set(), machine=True) == SEGMENTS[1]
    assert choose_segment([used], set()) == SEGMENTS[0]
