"""A site with everything that frames are judged by, as an operator would write it."""

from __future__ import annotations

from pathlib import Path

from appliance.definition.inventory_schema import parse_inventory
from appliance.frames.cable import Cable, cable_of

MGMT, DATA, STORE, EXPORT = (f"02:00:00:00:00:0{n}" for n in range(1, 5))
OPERATOR_MAC, SWITCH_MAC = "02:aa:00:00:00:01", "02:aa:00:00:00:02"

TEXT = """\
format: 1
site: ward
management:
  networks: ["10.20.0.0/28", "fd20::/124", "10.99.0.0/24"]
  operator: ["10.20.0.1", "fd20::1"]
ssh: {user: root, known_hosts: known_hosts}
time: {source: ntp, servers: ["10.20.0.5"]}
nodes:
  gpu-01:
    address: "10.20.0.11"
    port: 2022
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24", "fd20::11/64"]
        routes: [{to: "10.99.0.0/24", via: "10.20.0.30"}]
      data0: {match: {mac: "02:00:00:00:00:02"}}
      data1: {match: {mac: "02:00:00:00:00:03"}}
      export: {match: {mac: "02:00:00:00:00:04"}, addresses: ["10.60.0.9/30"], link_local: true}
    bonds:
      data:
        interfaces: [data0, data1]
        mode: 802.3ad
        addresses: ["10.30.0.11/24", "fd30::11/64"]
    vlans:
      storage: {id: 120, link: data, addresses: ["10.50.0.11/24"]}
    flows:
      nccl:
        interface: data
        direction: both
        protocol: tcp
        ports: ["50000-50999"]
        peers: ["10.30.0.12", "fd30::12"]
      asks:
        {interface: data, direction: in, protocol: udp, ports: [4791], peers: ["10.30.0.12"], answers: true}
      deaf: {interface: data, direction: in, protocol: udp, ports: [4792], peers: ["10.30.0.12"]}
      disk: {interface: storage, direction: out, protocol: tcp, ports: [2049], peers: ["10.50.0.2"]}
      logs: {interface: export, direction: out, protocol: udp, ports: [5140], peers: ["10.60.0.10"]}
"""
INVENTORY, _ = parse_inventory(TEXT, Path("/site/inventory.yml"))
NODE = INVENTORY.node("gpu-01")


def cable(card: str) -> Cable:
    """The cable of one of the node's cards."""
    return cable_of(INVENTORY, NODE, card)
