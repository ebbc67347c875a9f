"""Encrypted drives in the inventory: what they become, and every wrong way to write them, at its place."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.definition.disks import Disk
from appliance.definition.inventory import node_values, settings_digest
from appliance.definition.inventory_schema import parse_inventory
from appliance.errors import GatewayForbidden, InventoryInvalid
from tests.unit.definition.test_escrow_key import ANA

PATH = Path("/site/inventory.yml")

VALID = f"""\
format: 1
site: example
management: {{networks: ["10.20.0.0/28"], operator: ["10.20.0.1"]}}
ssh: {{known_hosts: known_hosts}}
escrow: {{recipients: {{ana: {ANA}}}}}
nodes:
  gpu-01:
    address: "10.20.0.11"
    interfaces:
      mgmt: {{match: {{name: eno1}}, addresses: ["10.20.0.11/24"]}}
    disks:
      data: {{serial: S6CVNG0T1, unlock: tpm2, mounts: [/var/lib/appliance, /var/log/audit]}}
      dns:
        serial: "0042"
        namespace: 2
        unlock: ssh
        filesystem: xfs
        mounts: [/srv/more]
  gpu-02:
    address: "10.20.0.12"
    interfaces:
      mgmt: {{match: {{name: eno1}}, addresses: ["10.20.0.12/24"]}}
    disks:
      data: {{serial: S6CVNG0T2, unlock: tpm2, pcrs: [7, 4], mounts: [/var/lib/models], layers: dm-crypt}}
"""


def test_drives_become_values() -> None:
    """A name is the operator's: dns is no name server here."""
    inventory, _ = parse_inventory(VALID, PATH)
    assert inventory.node("gpu-01").disks == (
        Disk("data", "S6CVNG0T1", None, "tpm2", "ext4", ("/var/lib/appliance", "/var/log/audit"), (7,)),
        Disk("dns", "0042", 2, "ssh", "xfs", ("/srv/more",), ()),
    )
    assert inventory.node("gpu-02").disks[0].pcrs == (4, 7)
    assert [disk.layers for disk in inventory.node("gpu-01").disks] == ["opal and dm-crypt"] * 2
    assert node_values(inventory.node("gpu-02"))["disks"][0]["layers"] == "dm-crypt"
    assert node_values(inventory.node("gpu-01"))["disks"] == [
        {
            "name": "data",
            "serial": "S6CVNG0T1",
            "unlock": "tpm2",
            "filesystem": "ext4",
            "mounts": ["/var/lib/appliance", "/var/log/audit"],
            "pcrs": [7],
        },
        {
            "name": "dns",
            "serial": "0042",
            "namespace": 2,
            "unlock": "ssh",
            "filesystem": "xfs",
            "mounts": ["/srv/more"],
        },
    ]


def test_a_node_without_drives_has_the_settings_it_always_had() -> None:
    """A key that is not written must not make another installation of an older inventory."""
    inventory, _ = parse_inventory(VALID, PATH)
    node = inventory.node("gpu-02")
    without = replace(node, disks=())
    assert "disks" not in node_values(without)
    assert settings_digest(inventory, without) != settings_digest(inventory, node)


FIRST = "S6CVNG0T1, unlock: tpm2, mounts: [/var/lib/appliance, /var/log/audit]"


@pytest.mark.parametrize(
    ("was", "becomes", "place", "message"),
    [
        (f"serial: {FIRST}", f"serial: {FIRST}, key: secret", "12:93", "key"),
        ("serial: S6CVNG0T1, ", "", "12:13", "serial"),
        ("S6CVNG0T1, ", "12345, ", "12:22", "in quotes"),
        ("S6CVNG0T1, ", '" S6", ', "12:22", "no serial number"),
        ("S6CVNG0T1, ", '"", ', "12:22", "no serial number"),
        ("S6CVNG0T1, ", '"S6\\n", ', "12:22", "no serial number"),
        ("S6CVNG0T1, unlock: tpm2, ", "S6CVNG0T1, ", "12:13", "unlock"),
        ("S6CVNG0T1, unlock: tpm2", "S6CVNG0T1, unlock: clevis", "12:41", "tpm2"),
        ("S6CVNG0T1, unlock: tpm2", "S6CVNG0T1, unlock: console, pcrs: [7]", "12:13", "pcrs are the TPM's"),
        ("tpm2, pcrs: [7, 4]", "tpm2, pcrs: [7, 7]", "24:13", "twice"),
        ("tpm2, pcrs: [7, 4]", "tpm2, pcrs: []", "24:53", "at least 1"),
        ("tpm2, pcrs: [7, 4]", "tpm2, pcrs: [24]", "24:54", "less than 24"),
        ("tpm2, pcrs: [7, 4]", "tpm2, pcrs: [sha256]", "24:54", "integer"),
        ("layers: dm-crypt", "layers: none", "24:96", "opal and dm-crypt"),
        ("layers: dm-crypt", "layers: [opal, dm-crypt]", "24:96", "opal and dm-crypt"),
        ("namespace: 2", "namespace: 0", "15:20", "greater than or equal to 1"),
        ("namespace: 2", "namespace: two", "15:20", "integer"),
        ("filesystem: xfs", "filesystem: btrfs", "17:21", "ext4"),
        ("mounts: [/srv/more]", "mounts: []", "18:17", "at least 1"),
        ("mounts: [/srv/more]", "mounts: [/srv]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", "mounts: [/srv/more/]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", "mounts: [/srv/../etc]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", "mounts: [srv/more]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", 'mounts: ["/srv/a b"]', "18:18", "two folders deep"),
        ("mounts: [/srv/more]", f"mounts: [/srv/{'a' * 96}]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", "mounts: [7]", "18:18", "two folders deep"),
        ("mounts: [/srv/more]", "mounts: [/usr/local]", "18:18", "no volume may be mounted there"),
        ("mounts: [/srv/more]", "mounts: [/run/data]", "18:18", "no volume may be mounted there"),
        ("mounts: [/srv/more]", "mounts: [/var/run]", "18:18", "no volume may be mounted there"),
        ("mounts: [/srv/more]", "mounts: [/var/log]", "18:18", "what starts first writes there"),
        ("mounts: [/srv/more]", "mounts: [/mnt/appliance]", "18:18", "volumes themselves"),
        ("mounts: [/srv/more]", "mounts: [/mnt/appliance/dns]", "18:18", "volumes themselves"),
        ("mounts: [/srv/more]", "mounts: [/var/log/audit]", "18:18", "the same, or lie in one another"),
        ("mounts: [/srv/more]", "mounts: [/var/log/audit/more]", "18:18", "lie in one another"),
        ("mounts: [/srv/more]", "mounts: [/srv/a/b, /srv/a]", "18:28", "lie in one another"),
        ("      dns:", "      control:", "14:9", "the kernel's own name"),
        ("      dns:", "      my-data:", "13:7", "pattern"),
        ("      dns:", "      ../x:", "13:7", "pattern"),
        ('serial: "0042"\n        namespace: 2', "serial: S6CVNG0T1", "14:17", "already data of gpu-01"),
        ('serial: "0042"', "serial: S6CVNG0T1", "14:17", "already data of gpu-01"),
        ("serial: S6CVNG0T2", "serial: S6CVNG0T1", "24:22", "already data of gpu-01"),
        (f"escrow: {{recipients: {{ana: {ANA}}}}}", "revert_after: 60", "11:5", "nobody could open"),
    ],
)
def test_a_drive_that_cannot_be(was: str, becomes: str, place: str, message: str) -> None:
    assert VALID.count(was) == 1, was
    with pytest.raises(InventoryInvalid) as raised:
        parse_inventory(VALID.replace(was, becomes), PATH)
    error = raised.value
    assert message in f"{error.message} {error.found} {error.wanted}"
    assert error.where is not None
    assert f"{error.where.line}:{error.where.column}" == place


def test_two_namespaces_of_a_drive_are_two_drives() -> None:
    text = VALID.replace('serial: "0042"', "serial: S6CVNG0T1").replace(
        "S6CVNG0T1, unlock", "S6CVNG0T1, namespace: 1, unlock"
    )
    inventory, _ = parse_inventory(text, PATH)
    assert [disk.namespace for disk in inventory.node("gpu-01").disks] == [1, 2]


def test_the_example_says_it_as_it_is_written() -> None:
    """Its lines are comments, since a real recipient and a real drive belong there."""
    text = (Path(__file__).parents[3] / "inventory.example/inventory.yml").read_text()
    text = re.sub(r"^( *)# (?=disks:|  data:|escrow:|  recipients:)", r"\1", text, flags=re.MULTILINE)
    text = text.replace("safe: age1…, office: age1…", f"safe: {ANA}")
    (disk,) = parse_inventory(text, PATH)[0].node("gpu-01").disks
    assert (disk.unlock, disk.mounts[0]) == ("tpm2", "/var/lib/appliance")


def test_a_way_out_is_refused_below_drives_too() -> None:
    with pytest.raises(GatewayForbidden):
        parse_inventory(VALID.replace("namespace: 2", "gateway: 10.0.0.1"), PATH)
