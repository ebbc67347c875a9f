"""The address plan: no two things alike, nothing over what is in use, names that fit."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from appliance.errors import LabFailed, Usage
from appliance.lab.plan import (
    MAX_NODES,
    MOST_DRIVES,
    SEGMENTS,
    Lab,
    check_count,
    check_drives,
    check_name,
    choose_segment,
    lab_of,
)
from appliance.lab.segments import segment_networks


def lab(**changes: object) -> Lab:
    values = {
        "name": "ward",
        "segment": 7,
        "count": 2,
        "token": "0123456789",
        "netns": (4, 4026531840),
        "root": Path("/cache/abc/root"),
    }
    return Lab(**{**values, **changes})  # type: ignore[arg-type]


def test_everything_is_derived_from_the_segment() -> None:
    ward = lab()
    first, second = ward.nodes
    assert (first.name, first.address4, first.address6) == ("ward-01", "10.77.7.11", "fd77:7::11")
    assert (second.name, second.address4, second.address6) == ("ward-02", "10.77.7.12", "fd77:7::12")
    assert first.mac == "02:00:0a:4d:07:0b"
    assert ward.bridge_mac == "02:01:23:45:67:89"
    assert ward.cgroup == "appliance-lab-ward-0123456789"


@pytest.mark.parametrize("segment", [SEGMENTS[0], SEGMENTS[-1]])
def test_addresses_lie_where_the_plan_says(segment: int) -> None:
    ward = lab(segment=segment, count=MAX_NODES)
    families = zip(segment_networks(segment), ward.management, ward.operator, ward.foreign, strict=True)
    for index, (network, management, operator, foreign) in enumerate(families):
        assert ip_network(management).subnet_of(network)  # type: ignore[arg-type]
        assert ip_address(operator) in ip_network(management)
        assert ip_address(foreign) in network
        assert ip_address(foreign) not in ip_network(management)
        for node in ward.nodes:
            address = ip_address((node.address4, node.address6)[index])
            assert address in network
            assert address not in ip_network(management)
            assert str(address) not in {operator, foreign}


def test_no_two_nodes_share_a_name_an_address_or_a_cable() -> None:
    nodes = [*lab(segment=1, count=MAX_NODES).nodes, *lab(name="icu", segment=11, count=MAX_NODES).nodes]
    for attribute in ("name", "address4", "address6", "mac", "link"):
        assert len({getattr(node, attribute) for node in nodes}) == len(nodes)


def test_interface_names_fit_into_15_characters_however_long_the_lab_is_called() -> None:
    longest = lab(name="a" * 32, segment=254, count=MAX_NODES)
    assert max(len(name) for name in (longest.bridge, *(node.link for node in longest.nodes))) <= 15
    assert max(len(node.name) for node in longest.nodes) <= 64


@pytest.mark.parametrize("name", ["a", "ward", "w2", "a-b", "x" * 32, "ward-1", "ward-003"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "-a", "a-", "a_b", "a/b", "..", "a.b", "x" * 33, "ward-01", "ä", "a\n"]
)
def test_wrong_names_are_refused(name: str) -> None:
    with pytest.raises(Usage) as caught:
        check_name(name)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("count", [-1, 0, MAX_NODES + 1])
def test_wrong_counts_are_refused(count: int) -> None:
    with pytest.raises(Usage):
        check_count(count)


@pytest.mark.parametrize("drives", [-1, MOST_DRIVES + 1])
def test_wrong_numbers_of_drives_are_refused(drives: int) -> None:
    with pytest.raises(Usage):
        check_drives(drives)


def test_a_node_is_found_by_its_own_name() -> None:
    assert lab_of("ward-02") == "ward"
    assert lab_of("ward") == "ward"
    assert lab_of("north-ward-64") == "north-ward"


@pytest.mark.parametrize(
    ("used", "taken", "chosen"),
    [
        ([], set(), 1),
        (["10.77.1.5/24"], set(), 2),
        (["10.77.1.77/32"], set(), 2),
        (["fd77:1::9/64"], set(), 2),
        (["fd77:1::/128"], {2}, 3),
        (["10.77.0.0/23", "10.77.2.0/24"], {3}, 4),
        (["192.168.1.7/24", "fe80::1/64", "127.0.0.1/8"], set(), 1),
    ],
)
def test_a_segment_overlaps_nothing_in_use(used: list[str], taken: set[int], chosen: int) -> None:
    assert choose_segment(used, taken) == chosen


@pytest.mark.parametrize("used", [["10.0.0.0/8"], ["fd00::/8"]])
def test_no_segment_is_taken_out_of_a_network_that_is_routed_elsewhere(used: list[str]) -> None:
    with pytest.raises(LabFailed) as caught:
        choose_segment(used, set())
    assert caught.value.exit_code == 7


def test_the_last_segment_is_used_and_then_there_is_none() -> None:
    assert choose_segment([], set(SEGMENTS) - {254}) == 254
    with pytest.raises(LabFailed):
        choose_segment([], set(SEGMENTS))
