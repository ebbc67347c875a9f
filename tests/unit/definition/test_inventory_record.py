"""A site and a node in JSON and back: what is read declares the same, to the same digest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.definition.inventory import node_values, settings_digest, site_values
from appliance.definition.inventory_record import inventory_record, read_record
from appliance.definition.inventory_schema import parse_inventory
from appliance.node.audit.baseline import declared_digest

PATH = Path("/site/inventory.yml")
SMALL = """\
format: 1
site: example
management: {networks: ["10.20.0.0/28"], operator: ["10.20.0.1"]}
ssh: {known_hosts: known_hosts}
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt: {match: {name: eno1}, addresses: ["10.20.0.11/24"]}
"""
LARGE = """\
format: 1
site: example
management:
  networks: ["10.20.0.0/28", "fd20::/124"]
  operator: ["10.20.0.1", "fd20::1"]
  foreign: ["10.20.0.99"]
ssh: {user: appliance, known_hosts: known_hosts}
revert_after: 77
inference: {port: 8123}
time: {source: ntp, servers: ["10.20.0.5"]}
usb_storage: allow
module_loading: locked
banner: Keep out.
known_units: {agent@*.service: reports temperatures on loopback}
audit: {daily: true, at: "04:15"}
nodes:
  gpu-01:
    address: "10.20.0.11"
    port: 2222
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24", "fd20::11/64"]
        link_local: true
        routes: [{to: "10.40.0.0/16", via: "10.20.0.9"}]
      a: {match: {pci: "0000:5e:00.0"}}
      b: {match: {pci: "0000:5f:00.0"}}
    bonds:
      data: {interfaces: [a, b], mode: 802.3ad, lacp_rate: fast, addresses: ["10.30.0.11/24"], mtu: 9000}
    vlans:
      logs: {id: 7, link: data, addresses: ["10.50.0.11/24"]}
    flows:
      nccl: {interface: data, direction: both, protocol: tcp, ports: ["50000-50999", 7], peers: [gpu-02]}
      export: {interface: logs, direction: out, protocol: udp, ports: [5514], peers: ["10.50.0.2"]}
    export:
      match: {pci: "0000:18:00.1"}
      address: "10.60.0.9"
      receiver: {address: "10.60.0.10", mac: "02:00:00:00:00:0f", port: 5514}
      sources: {journal: false, audit: true, folders: {b: /srv/b, a: /srv/a}}
      sending: {rate: 12.5, constant: true, when_full: stop}
      select: {journal: {fields: [MESSAGE, PRIORITY], redact: ["a+"]}, b: {fields: []}}
    disks:
      data: {serial: S1, unlock: tpm2, mounts: [/srv/a, /srv/b], filesystem: xfs, pcrs: [7, 0]}
      more: {serial: S2, namespace: 2, unlock: ssh, mounts: [/srv/c], layers: dm-crypt}
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt: {match: {name: eno1}, addresses: ["10.20.0.12/24", "10.30.0.12/24"]}
escrow: {recipients: {ana: age18h0xf3d5zpjydu8jqm635l5argzp6mahwnv7xu6jeu2fp9wvm3asd0u22h}}
"""


@pytest.mark.parametrize("text", [SMALL, LARGE])
def test_what_is_read_back_declares_the_same(text: str) -> None:
    inventory, _ = parse_inventory(text, PATH)
    for node in inventory.nodes:
        record = json.loads(json.dumps(inventory_record(inventory, node)))
        again, entry = read_record(record)
        assert entry == node
        # Other nodes, the way in and the places of values are the station's alone.
        assert again == replace(inventory, nodes=(node,), ssh=None, document=None, escrow=None)
        assert node_values(entry) == node_values(node)
        assert site_values(again) == {**site_values(inventory), "ssh_user": ""}
        assert declared_digest(again, entry) == declared_digest(inventory, node)
        assert settings_digest(again, entry) != settings_digest(inventory, node), "who logs in is left out"


def test_everything_that_shapes_a_node_is_there() -> None:
    """Whoever adds a key to an inventory has it here, or the digest above would not be the same."""
    inventory, _ = parse_inventory(LARGE, PATH)
    plain, _ = parse_inventory(SMALL, PATH)
    large, small = (site_values(each) for each in (inventory, plain))
    assert [key for key in small if large[key] == small[key]] == ["name"]
