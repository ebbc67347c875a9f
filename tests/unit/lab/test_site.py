"""What an operator gets and what a node starts with."""

from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

from appliance.definition.inventory import Bond, Vlan
from appliance.definition.inventory_schema import parse_inventory
from appliance.lab.identity import new_key_pair
from appliance.lab.plan import Lab
from appliance.lab.site import PRIVATE_FILES, inventory_text, known_hosts_text, node_files

LAB = Lab("ward", 7, 2, "0123456789", (4, 4026531840), Path("/cache/abc/root"))


def files() -> dict[str, str]:
    return node_files(
        LAB, LAB.nodes[1], host_key="HOST", operator_key="ssh-ed25519 OPERATOR", machine_id="0" * 32
    )


def test_the_inventory_is_one_that_an_installation_accepts() -> None:
    inventory, _ = parse_inventory(inventory_text(LAB), Path("/labs/ward/inventory/inventory.yml"))
    assert [str(network) for network in inventory.management.networks] == list(LAB.management)
    assert [str(address) for address in inventory.management.operator] == list(LAB.operator)
    assert [str(address) for address in inventory.management.foreign] == list(LAB.foreign)
    for entry, node in zip(inventory.nodes, LAB.nodes, strict=True):
        (interface,) = entry.interfaces
        assert (entry.name, str(entry.address), entry.port) == (node.name, node.address4, 22)
        assert interface.match.mac == node.mac
        assert [str(address) for address in interface.addresses] == [
            f"{node.address4}/24",
            f"{node.address6}/64",
        ]


def test_the_inventory_of_machines_names_all_three_interfaces() -> None:
    lab = replace(LAB, machine=True)
    inventory, _ = parse_inventory(inventory_text(lab), Path("/labs/ward/inventory/inventory.yml"))
    for entry, node in zip(inventory.nodes, lab.nodes, strict=True):
        assert [interface.name for interface in entry.interfaces] == ["mgmt", "export", "data"]
        assert [interface.match.mac for interface in entry.interfaces] == [nic.mac for nic in node.nics]
        assert entry.management_addresses == node.nics[0].addresses


def test_with_a_bond_the_inventory_has_it_and_a_vlan_on_it() -> None:
    lab = replace(LAB, machine=True, bond=True)
    inventory, _ = parse_inventory(inventory_text(lab), Path("/labs/ward/inventory/inventory.yml"))
    entry, nics = inventory.nodes[1], lab.nodes[1].nics
    cards = entry.interfaces[:4]
    assert [card.name for card in cards] == ["mgmt", "export", "data0", "data1"]
    assert [card.match.mac for card in cards] == [nic.mac for nic in nics]
    bond, vlan = entry.interfaces[4:]
    assert bond.bond == Bond(("data0", "data1"), "active-backup")
    assert (bond.name, bond.mtu) == ("data", 9000)
    assert [str(each.ip) for each in bond.addresses] == list(nics[2].addresses)
    assert (vlan.name, vlan.vlan) == ("storage", Vlan(120, "data"))
    assert [str(each) for each in vlan.addresses] == ["10.80.7.12/24"]


def test_a_second_card_is_racked_without_a_configuration() -> None:
    lab = replace(LAB, machine=True, bond=True)
    written = node_files(lab, lab.nodes[0], host_key="", operator_key="", machine_id="0" * 32)
    racked = {path for path in written if path.startswith("etc/systemd/network/")}
    assert racked == {f"etc/systemd/network/10-racked{end}.network" for end in ("", "-export", "-data")}


def test_host_keys_are_pinned_for_both_addresses_of_every_node() -> None:
    keys = {"ward-01": "ssh-ed25519 AAAA1", "ward-02": "ssh-ed25519 AAAA2"}
    assert known_hosts_text(LAB, keys).splitlines() == [
        "10.77.7.11,fd77:7::11 ssh-ed25519 AAAA1",
        "10.77.7.12,fd77:7::12 ssh-ed25519 AAAA2",
    ]


def test_a_node_starts_with_a_way_out_that_isolation_must_take_away() -> None:
    text = files()["etc/systemd/network/10-racked.network"]
    sections = configparser.ConfigParser(strict=False, comment_prefixes="#")
    sections.optionxform = str  # type: ignore[assignment,method-assign]
    sections.read_string(text)
    assert sections["Match"]["Name"] == "host0"
    for line in (
        "Gateway=10.77.7.1",
        "Gateway=fd77:7::1",
        "Address=10.77.7.12/24",
        "Address=fd77:7::12/64",
    ):
        assert line in text.splitlines()
    assert files()["etc/resolv.conf"] == "nameserver 10.77.7.1\nnameserver fd77:7::1\n"


def test_a_node_knows_its_name_and_its_operator() -> None:
    written = files()
    assert written["etc/hostname"] == "ward-02\n"
    assert written["etc/machine-id"] == "0" * 32 + "\n"
    assert written["root/.ssh/authorized_keys"] == "ssh-ed25519 OPERATOR\n"
    assert set(PRIVATE_FILES) <= set(written)


def test_keys_are_fresh_ed25519_keys_in_openssh_form() -> None:
    first, second = new_key_pair(), new_key_pair()
    assert first.public.startswith("ssh-ed25519 ")
    assert first.private.startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert first.private.endswith("\n")
    assert first != second
