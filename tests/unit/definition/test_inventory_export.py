"""A node's export in the inventory: what it becomes, and every wrong way to write it, at its place."""

from __future__ import annotations

import inspect
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.cli.export_send import send
from appliance.definition.export import FOLDER, Export, Receiver, Sending, Sources, StreamFields
from appliance.definition.inventory import node_values, settings_digest
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import GatewayForbidden, InventoryInvalid

PATH = Path("/site/inventory.yml")

VALID = """\
format: 1
site: example
management:
  networks: ["10.20.0.0/28"]
  operator: ["10.20.0.1"]
  foreign: ["10.20.0.200"]
ssh:
  known_hosts: known_hosts
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:01"}
        addresses: ["10.20.0.11/24"]
      data:
        match: {pci: "0000:5e:00.0"}
        addresses: ["10.30.0.11/24"]
        routes: [{to: "10.40.0.0/16", via: "10.30.0.1"}]
    export:
      match: {mac: "02:00:00:00:00:0E"}
      address: "10.60.0.9"
      receiver: {address: "10.60.0.10", mac: "02:00:00:00:00:0f", port: 5514}
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt:
        match: {mac: "02:00:00:00:00:02"}
        addresses: ["10.20.0.12/24"]
    export:
      match: {pci: "0000:18:00.1"}
      address: "10.60.0.13"
      receiver: {address: "10.60.0.14", mac: "02:00:00:00:00:0f", port: 5514}
      folder: /srv/export
"""


def test_an_export_becomes_values() -> None:
    inventory, _ = parse_inventory(VALID, PATH)
    receiver = Receiver(IPv4Address("10.60.0.10"), "02:00:00:00:00:0f", 5514)
    assert inventory.node("gpu-01").export == Export(
        "02:00:00:00:00:0e", None, IPv4Address("10.60.0.9"), receiver, FOLDER
    )
    assert node_values(inventory.node("gpu-02"))["export"] == {
        "match": {"pci": "0000:18:00.1"},
        "address": "10.60.0.13",
        "receiver": {"address": "10.60.0.14", "mac": "02:00:00:00:00:0f", "port": 5514},
        "folder": "/srv/export",
    }


def test_what_is_exported_is_said_and_the_usual_is_left_out() -> None:
    asked = "sources: {journal: false, audit: true, folders: {b: /srv/b, a: /srv/a}}"
    inventory, _ = parse_inventory(VALID.replace("folder: /srv/export", asked), PATH)
    assert inventory.node("gpu-02").export.sources == Sources(  # type: ignore[union-attr] # it has one
        journal=False, audit=True, folders=(("a", "/srv/a"), ("b", "/srv/b"))
    )
    found = node_values(inventory.node("gpu-02"))["export"]
    assert isinstance(found, dict)
    assert found["sources"] == {"journal": False, "audit": True, "folders": {"a": "/srv/a", "b": "/srv/b"}}
    usual = "sources: {journal: true, audit: false, folders: {}}"
    inventory, _ = parse_inventory(VALID.replace("folder: /srv/export", usual), PATH)
    found = node_values(inventory.node("gpu-02"))["export"]
    assert isinstance(found, dict)
    assert "sources" not in found


def test_how_it_is_sent_and_what_may_leave_is_said_and_the_usual_is_left_out() -> None:
    asked = (
        "sending: {rate: 2, idle_rate: 0.5, constant: true, parity: 30, spool: 4096, when_full: stop}\n"
        "      select:\n"
        "        journal: {fields: [MESSAGE], redact: ['(?i)password=\\S+']}\n"
        "        audit-log: {fields: [type]}"
    )
    inventory, _ = parse_inventory(VALID.replace("folder: /srv/export", asked), PATH)
    export = inventory.node("gpu-02").export
    assert export is not None
    assert export.sending == Sending(2, 0.5, constant=True, parity=30, spool=4096, when_full="stop")
    assert export.select == (
        StreamFields("audit-log", ("type",)),
        StreamFields("journal", ("MESSAGE",), (r"(?i)password=\S+",)),
    )
    assert export.as_dict()["select"] == {
        "audit-log": {"fields": ["type"], "redact": []},
        "journal": {"fields": ["MESSAGE"], "redact": [r"(?i)password=\S+"]},
    }
    usual = "sending: {rate: 100, idle_rate: 5, constant: false, parity: 20, spool: 1024, when_full: drop}"
    inventory, _ = parse_inventory(VALID.replace("folder: /srv/export", usual), PATH)
    assert not {"sending", "select"} & inventory.node("gpu-02").export.as_dict().keys()  # type: ignore[union-attr]


def test_nothing_but_tombstones_is_something_else_than_everything() -> None:
    inventory, _ = parse_inventory(VALID.replace("folder: /srv/export", "select: {}"), PATH)
    export = inventory.node("gpu-02").export
    assert export is not None
    assert export.select == ()
    assert export.as_dict()["select"] == {}


def test_the_usual_is_what_the_command_does_if_it_is_not_told() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(send).parameters.items()}
    usual = Sending()
    assert (usual.rate, usual.idle_rate, usual.parity) == tuple(
        defaults[name] for name in ("rate", "idle_rate", "parity")
    )
    assert (usual.spool, usual.constant) == (defaults["spool_mib"], defaults["constant"])
    assert (usual.when_full == "stop") == defaults["stop_when_full"]


def test_a_node_without_an_export_has_the_settings_it_always_had() -> None:
    """A key that is not written must not make another installation of an older inventory."""
    inventory, _ = parse_inventory(VALID, PATH)
    node = inventory.node("gpu-01")
    without = replace(node, export=None)
    assert "export" not in node_values(without)
    assert settings_digest(inventory, without) != settings_digest(inventory, node)


@pytest.mark.parametrize(
    ("was", "becomes", "place", "message"),
    [
        ('{mac: "02:00:00:00:00:0E"}', "{}", "21:7", "either mac or pci"),
        (
            '{mac: "02:00:00:00:00:0E"}',
            '{mac: "02:00:00:00:00:0e", pci: "0000:19:00.0"}',
            "21:7",
            "either mac or pci",
        ),
        ('{mac: "02:00:00:00:00:0E"}', '{name: "eno3"}', "21:15", "name"),
        ('"02:00:00:00:00:0E"', '"02:00:00:00:00:01"', "21:20", "already belongs to gpu-01 (mgmt)"),
        ('{mac: "02:00:00:00:00:0E"}', '{pci: "0000:5e:00.0"}', "21:20", "is the interface data"),
        ('"02:00:00:00:00:0E"', '"03:00:00:00:00:0e"', "21:20", "of many stations"),
        ('"10.60.0.9"', '"fd60::9"', "22:16", "no IPv6"),
        ('"10.60.0.9"', '"10.60.0.9/30"', "22:16", "not an IP address"),
        ('"10.60.0.9"', '"10.30.0.9"', "22:16", "10.30.0.0/24 on data of gpu-01"),
        ('"10.60.0.9"', '"10.20.0.5"', "22:16", "10.20.0.0/24 on mgmt of gpu-01"),
        ('"10.60.0.10"', '"10.40.0.10"', "23:27", "10.40.0.0/16 on data of gpu-01"),
        ('"10.60.0.10"', '"10.60.0.9"', "23:27", "is the node itself"),
        ('"10.60.0.13"', '"10.60.0.9"', "32:16", "already the export's address of gpu-01"),
        (
            '"02:00:00:00:00:0f", port: 5514}\n  gpu-02',
            '"02:00:00:00:00:0e", port: 5514}\n  gpu-02',
            "23:46",
            "is the node itself",
        ),
        ("port: 5514}\n  gpu-02", "port: 0}\n  gpu-02", "23:73", "receiver.port is wrong"),
        ("port: 5514}\n  gpu-02", "port: 53}\n  gpu-02", "23:73", "port 53 is DNS's"),
        ("/srv/export", "srv/export", "34:15", "not an absolute path"),
        ("/srv/export", "/srv", "34:15", "two folders deep"),
        ("/srv/export", "/srv/../etc", "34:15", "not an absolute path"),
        ("/srv/export", "/run/export", "34:15", "would not last there"),
        ("/srv/export", '"/srv/a b"', "34:15", "not an absolute path"),
        ("folder: /srv/export", "diode: true", "34:7", "diode"),
        ("folder: /srv/export", "sources: {metrics: true}", "34:17", "metrics"),
        ("folder: /srv/export", "sources: {journal: 1}", "34:26", "journal"),
        ("folder: /srv/export", 'sources: {audit: "yes"}', "34:24", "audit"),
        ("folder: /srv/export", "sources: {folders: {a: /srv}}", "34:30", "two folders deep"),
        ("folder: /srv/export", "sources: {folders: {a: /tmp/a}}", "34:30", "would not last there"),
        ("folder: /srv/export", "sources: {folders: {audit: /srv/a}}", "34:34", "not a stream's name"),
        ("folder: /srv/export", "sources: {folders: {A b: /srv/a}}", "34:32", "not a stream's name"),
        ("folder: /srv/export", "sources: {folders: {a: /srv/a, b: /srv/a}}", "34:26", "one folder"),
        ("folder: /srv/export", "sending: {rate: 0}", "34:23", "rate"),
        ("folder: /srv/export", "sending: {rate: fast}", "34:23", "rate"),
        ("folder: /srv/export", "sending: {idle_rate: -1}", "34:28", "idle_rate"),
        ("folder: /srv/export", "sending: {constant: 1}", "34:27", "constant"),
        ("folder: /srv/export", "sending: {parity: 301}", "34:25", "parity"),
        ("folder: /srv/export", "sending: {parity: 2.5}", "34:25", "parity"),
        ("folder: /srv/export", "sending: {spool: 7}", "34:24", "spool"),
        ("folder: /srv/export", "sending: {when_full: wait}", "34:28", "when_full"),
        ("folder: /srv/export", "sending: {speed: 1}", "34:17", "speed"),
        ("folder: /srv/export", "select: {J: {fields: []}}", "34:19", "not a stream's name"),
        ("folder: /srv/export", "select: {journal: {}}", "34:25", "fields"),
        ("folder: /srv/export", "select: {journal: {fields: [a b]}}", "34:35", "fields"),
        ("folder: /srv/export", 'select: {a: {fields: [], redact: ["("]}}', "34:41", "not a pattern"),
        (
            "folder: /srv/export",
            'select: {a: {fields: [], redact: ["a*"]}}',
            "34:41",
            "redacts everything",
        ),
        (
            "folder: /srv/export",
            'select: {a: {fields: [], redact: ["\\t"]}}',
            "34:41",
            "printable",
        ),
        ("folder: /srv/export", "select: {a: {fields: [], redact: [1]}}", "34:41", "pattern"),
        (
            "folder: /srv/export",
            "sources: {folders: {a: /var/lib/appliance-export/sender}}",
            "31:7",
            "lie in one another",
        ),
    ],
)
def test_what_cannot_be_exported_by_is_refused_at_its_place(
    was: str, becomes: str, place: str, message: str
) -> None:
    assert VALID.count(was) == 1, was
    with pytest.raises(InventoryInvalid) as caught:
        parse_inventory(VALID.replace(was, becomes), PATH)
    assert message in str(caught.value)
    assert str(caught.value.where) == f"{PATH}:{place}"


def test_a_gateway_on_the_exports_wire_is_a_way_out() -> None:
    with pytest.raises(GatewayForbidden, match="gateway4"):
        parse_inventory(VALID.replace("folder: /srv/export", 'gateway4: "10.60.0.14"'), PATH)
