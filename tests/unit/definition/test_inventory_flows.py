"""Allowed flows: what contradicts the isolation is refused at its place."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from appliance.definition.inventory import Flow, Peer, node_values, settings_digest
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import GatewayForbidden, InventoryInvalid

PATH = Path("/site/inventory.yml")

VALID = """\
format: 1
site: example
management:
  networks: ["10.20.0.0/28", "fd20::/124"]
  operator: ["10.20.0.1", "fd20::1"]
  foreign: ["10.20.0.200"]
ssh:
  known_hosts: known_hosts
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24", "fd20::11/64"]
      data:
        match: {mac: "02:00:00:00:00:02"}
        addresses: ["10.30.0.11/24", "fd30::11/64"]
      export:
        match: {mac: "02:00:00:00:00:03"}
        addresses: ["10.60.0.9/30"]
      idle:
        match: {mac: "02:00:00:00:00:04"}
    vlans:
      tagged: {id: 5, link: idle, addresses: ["10.70.0.11/24"]}
    flows:
      nccl:
        interface: data
        direction: both
        protocol: tcp
        ports: ["50000-50999", 4791]
        peers: [gpu-02, "10.30.0.40"]
      logs:
        interface: export
        direction: out
        protocol: udp
        ports: [5140]
        peers: ["10.60.0.10"]
      time:
        interface: mgmt
        direction: out
        protocol: udp
        ports: [123]
        peers: ["10.20.0.60"]
        answers: true
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:11"}
        addresses: ["10.20.0.12/24"]
      data:
        match: {mac: "02:00:00:00:00:12"}
        addresses: ["10.30.0.12/24", "fd30::12/64"]
"""

NETWORK = "contradicts isolation"

# what is replaced, by what, line and column of the complaint, words of the message
CATALOGUE = {
    "everybody": ('["10.60.0.10"]', '["0.0.0.0/0"]', 38, 17, NETWORK),
    "everybody, IPv6": ('["10.60.0.10"]', '["::/0"]', 38, 17, NETWORK),
    "a network": ('["10.60.0.10"]', '["10.60.0.8/30"]', 38, 17, NETWORK),
    "anybody": ('["10.60.0.10"]', "[any]", 38, 17, "neither an address nor a node"),
    "nobody": ('["10.60.0.10"]', "[]", 38, 16, "at least one"),
    "unspecified": ('["10.60.0.10"]', '["0.0.0.0"]', 38, 17, "unspecified"),
    "multicast": ('["10.60.0.10"]', '["224.0.0.1"]', 38, 17, "multicast"),
    "beyond the wire": ('["10.60.0.10"]', '["10.61.0.10"]', 38, 17, "does not reach it"),
    "broadcast": ('["10.60.0.10"]', '["10.60.0.11"]', 38, 17, "everybody in it"),
    "everybody on the wire": ('"10.30.0.40"]', '"10.30.0.255"]', 32, 25, "everybody in it"),
    "a node that is not there": ("[gpu-02, ", "[gpu-03, ", 32, 17, "neither an address nor a node"),
    "a node out of reach": ('["10.60.0.10"]', "[gpu-02]", 38, 17, "neither an address nor a node"),
    "the node itself": ("[gpu-02, ", "[gpu-01, ", 32, 17, "gpu-01 itself"),
    "a peer twice": ('"10.30.0.40"]', '"10.30.0.12"]', 32, 25, "twice a peer"),
    "the management network": ('["10.20.0.60"]', '["10.20.0.9"]', 44, 17, "management network"),
    "the operator": ('["10.20.0.60"]', '["10.20.0.1"]', 44, 17, "management network"),
    "the address for the proof": ('["10.20.0.60"]', '["10.20.0.200"]', 44, 17, "this station's"),
    "DNS": ("ports: [123]", "ports: [53]", 43, 17, "would let DNS through"),
    "DHCP in a range": ("ports: [123]", 'ports: ["60-70"]', 43, 17, "would let DHCP through"),
    "multicast DNS": ("ports: [5140]", "ports: [5353]", 37, 17, "multicast DNS"),
    "every port": ("ports: [5140]", 'ports: ["1-65535"]', 37, 17, "would let DNS through"),
    "SSH": (", 4791]", ", 22]", 31, 32, "management networks"),
    "the inference port": (", 4791]", ", 8000]", 31, 32, "loopback only"),
    "ports twice": (", 4791]", ", 50999]", 31, 32, "overlap"),
    "ports the wrong way": ('"50000-50999"', '"50999-50000"', 31, 17, "the lower one first"),
    "port 0": (", 4791]", ", 0]", 31, 32, "1 to 65535"),
    "port above all": (", 4791]", ", 65536]", 31, 32, "1 to 65535"),
    "port is true": (", 4791]", ", true]", 31, 32, "not a port"),
    "port by name": (", 4791]", ", ssh]", 31, 32, "not a port"),
    "no ports": ("ports: [5140]", "ports: []", 37, 16, "at least one"),
    "all protocols": (
        "protocol: udp\n        ports: [5140]",
        "protocol: any\n        ports: [5140]",
        36,
        19,
        "protocol",
    ),
    "through": ("direction: both", "direction: through", 29, 20, "direction"),
    "no such interface": ("interface: export", "interface: exprot", 34, 20, "no interface of gpu-01"),
    "interface without an address": (
        "interface: export",
        "interface: idle",
        34,
        20,
        "no interface of gpu-01",
    ),
    "unknown key": ("answers: true", "answer: true", 45, 9, "unknown key"),
    "flow with a bad name": ("      nccl:\n", "      NCCL:\n", 27, 7, "not a name"),
}


@pytest.mark.parametrize("case", CATALOGUE)
def test_a_wrong_flow_is_refused_at_its_place(case: str) -> None:
    old, new, line, column, words = CATALOGUE[case]
    text = VALID.replace(old, new, 1)
    assert text != VALID
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(text, PATH)
    error = caught.value
    assert words in error.message
    assert error.where is not None
    assert (error.where.line, error.where.column) == (line, column), error.message
    assert error.exit_code == 3


def test_a_way_out_is_forbidden_in_a_flow_but_a_flow_may_be_called_so() -> None:
    with pytest.raises(GatewayForbidden):
        parse_inventory(VALID.replace("        answers: true", "        gateway: x"), PATH)
    assert parse_inventory(VALID.replace("      logs:\n", "      proxy:\n"), PATH)


def test_peers_are_addresses_and_nodes_within_reach() -> None:
    """Of a node those addresses that are on the flow's own wire, of both families."""
    inventory, _ = parse_inventory(VALID, PATH)
    nccl, logs, time = inventory.nodes[0].flows
    there = tuple(map(ip_address, ("10.30.0.12", "fd30::12")))
    assert nccl == Flow(
        *("nccl", "data", "both", "tcp"),
        ((50000, 50999), (4791, 4791)),
        (Peer("gpu-02", there), Peer("10.30.0.40", (ip_address("10.30.0.40"),))),
        answers=True,
    )
    assert (logs.answers, time.answers) == (False, True)
    assert (nccl.goes("in"), nccl.goes("out"), logs.goes("in"), logs.goes("out")) == (
        True,
        True,
        False,
        True,
    )


def test_a_peer_behind_a_listed_route_is_within_reach() -> None:
    routed = VALID.replace(
        '        addresses: ["10.60.0.9/30"]\n',
        '        addresses: ["10.60.0.9/29"]\n        routes: [{to: "10.61.0.0/24", via: "10.60.0.10"}]\n',
    ).replace('["10.60.0.10"]', '["10.61.0.10"]')
    assert parse_inventory(routed, PATH)[0].nodes[0].flows[1].addresses == (ip_address("10.61.0.10"),)


def test_roles_receive_flows_with_addresses_and_an_old_inventory_has_none() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    nccl, logs, _ = node_values(inventory.nodes[0])["flows"]  # type: ignore[misc]
    assert nccl == {
        "name": "nccl",
        "interface": "data",
        "directions": ["in", "out"],
        "protocol": "tcp",
        "ports": ["50000:50999", "4791"],
        "peers": ["10.30.0.12", "fd30::12", "10.30.0.40"],
        "answers": True,
    }
    assert (logs["directions"], logs["answers"]) == (["out"], False)
    assert "flows" not in node_values(inventory.nodes[1])


def test_a_peers_new_address_is_another_installation_of_this_node() -> None:
    before, _ = parse_inventory(VALID, PATH)
    after, _ = parse_inventory(VALID.replace("10.30.0.12/24", "10.30.0.13/24"), PATH)
    assert settings_digest(before, before.nodes[0]) != settings_digest(after, after.nodes[0])
