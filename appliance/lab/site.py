"""The inventory folder of a lab and the files of a freshly racked node.  Pure: values in, texts out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.lab.segments import DATA, LARGE_MTU, MANAGEMENT, SECOND, VLAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.lab.plan import Lab, Node
    from appliance.lab.segments import Nic

REVERT_AFTER = 120
INFERENCE_PORT = 8000
INTERFACE = "host0"

NETWORK_FILE = "etc/systemd/network/10-racked.network"

# The word of an inventory for an interface, where it is another than ours for what it is for.
_INTERFACE_NAMES = {MANAGEMENT: "mgmt"}
_CARD_NAMES = {DATA: "data0", SECOND: "data1"}

# Of the node's files, those only root may read.
PRIVATE_FILES = ("etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys")


def inventory_text(lab: Lab) -> str:
    """``inventory.yml`` for the lab, complete; see docs/architecture.md, "Inventory"."""
    import yaml

    values: dict[str, Any] = {
        "format": 1,
        "site": lab.name,
        "management": {
            "networks": list(lab.management),
            "operator": list(lab.operator),
            "foreign": list(lab.foreign),
        },
        "ssh": {"user": "root", "key": "keys/operator", "known_hosts": "known_hosts"},
        "revert_after": REVERT_AFTER,
        "nodes": {node.name: _inventory_node(node) for node in lab.nodes},
        "inference": {"port": INFERENCE_PORT},
    }
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=False)
    return f"# Made by `appliance lab up {lab.name}`; gone after `appliance lab down {lab.name}`.\n{text}"


def _inventory_node(node: Node) -> dict[str, object]:
    interfaces: dict[str, object] = {}
    bonded: dict[str, list[str]] = {}
    for nic in node.nics:
        if node.bond and nic.purpose in _CARD_NAMES:
            interfaces[_CARD_NAMES[nic.purpose]] = {"match": {"mac": nic.mac}}
            bonded |= _addresses(nic)
        else:
            name = _INTERFACE_NAMES.get(nic.purpose, nic.purpose)
            interfaces[name] = {"match": {"mac": nic.mac}, **_addresses(nic)}
    values: dict[str, object] = {
        "connection": "ssh",
        "address": node.address4,
        "port": 22,
        "interfaces": interfaces,
    }
    if node.bond:
        cards = list(_CARD_NAMES.values())
        bond = {"interfaces": cards, "mode": "active-backup", "mtu": LARGE_MTU, **bonded}
        address = f"10.80.{node.segment}.{node.host}/24"
        values["bonds"] = {DATA: bond}
        values["vlans"] = {"storage": {"id": VLAN, "link": DATA, "addresses": [address]}}
    return values


def _addresses(nic: Nic) -> dict[str, list[str]]:
    return {"addresses": [f"{nic.addresses[0]}/24", f"{nic.addresses[1]}/64"]} if nic.addresses else {}


def known_hosts_text(lab: Lab, host_keys: Mapping[str, str]) -> str:
    """``known_hosts`` with one line per node.

    Args:
        lab: the lab.
        host_keys: node name to public key (``ssh-ed25519 AAAA…``).
    """
    return "".join(f"{node.address4},{node.address6} {host_keys[node.name]}\n" for node in lab.nodes)


def node_files(
    lab: Lab, node: Node, *, host_key: str, operator_key: str, machine_id: str
) -> dict[str, str]:
    """What differs from node to node: path relative to the root, to content.

    The node has what an isolated one must not have: a gateway and a DNS server, both the operator's
    side, in a file that an installation can take over.  So isolation is visible afterwards.

    Args:
        lab: the lab.
        node: one of its nodes.
        host_key: private SSH host key, OpenSSH's own format.
        operator_key: public key allowed to log in as root.
        machine_id: 32 hexadecimal digits.
    """
    operator4, operator6 = lab.operator
    return {
        "etc/hostname": f"{node.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {node.name}\n",
        "etc/machine-id": f"{machine_id}\n",
        "etc/resolv.conf": f"nameserver {operator4}\nnameserver {operator6}\n",
        "etc/ssh/ssh_host_ed25519_key": host_key,
        "root/.ssh/authorized_keys": f"{operator_key}\n",
        **_network_files(lab, node),
    }


def _network_files(lab: Lab, node: Node) -> dict[str, str]:
    management, *others = node.nics
    files = {NETWORK_FILE: _network_text(lab, management, machine=node.machine)}
    for nic in others:
        if nic.addresses:
            files[f"etc/systemd/network/10-racked-{nic.purpose}.network"] = _beginning(nic, machine=True)
    return files


def _network_text(lab: Lab, nic: Nic, *, machine: bool) -> str:
    operator4, operator6 = lab.operator
    return f"""\
{_beginning(nic, machine=machine)}
[Network]
DNS={operator4}
DNS={operator6}

[Route]
Gateway={operator4}

[Route]
Gateway={operator6}
"""


def _beginning(nic: Nic, *, machine: bool) -> str:
    address4, address6 = nic.addresses
    match = f"MACAddress={nic.mac}" if machine else f"Name={INTERFACE}"
    # Without duplicate address detection the IPv6 address answers at once; the plan has no duplicates.
    return f"""\
# The machine as it was racked: addresses, and on the management network a way out.
[Match]
{match}

[Network]
DHCP=no

[Address]
Address={address4}/24

[Address]
Address={address6}/64
DuplicateAddressDetection=none
"""
