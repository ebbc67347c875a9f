"""The inventory folder of a lab and the files of a freshly racked node.  Pure: values in, texts out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.lab.plan import Lab, Node

REVERT_AFTER = 120
INFERENCE_PORT = 8000
INTERFACE = "host0"

NETWORK_FILE = "etc/systemd/network/10-racked.network"

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
    return {
        "connection": "ssh",
        "address": node.address4,
        "port": 22,
        "interfaces": {
            "mgmt": {
                "match": {"mac": node.mac},
                "addresses": [f"{node.address4}/24", f"{node.address6}/64"],
            }
        },
    }


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
        NETWORK_FILE: _network_text(lab, node),
    }


def _network_text(lab: Lab, node: Node) -> str:
    operator4, operator6 = lab.operator
    # Without duplicate address detection the IPv6 address answers at once; the plan has no duplicates.
    return f"""\
# The machine as it was racked: addresses, and a way out.
[Match]
Name={INTERFACE}

[Network]
DHCP=no
DNS={operator4}
DNS={operator6}

[Address]
Address={node.address4}/24

[Address]
Address={node.address6}/64
DuplicateAddressDetection=none

[Route]
Gateway={operator4}

[Route]
Gateway={operator6}
"""
