"""The inventory as the program uses it: a site, how its nodes are reached, what each node is called.

These are plain values; ``inventory_schema`` makes them out of what an operator wrote, with a position
for every complaint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Match:
    """How an interface is recognised on the node: by MAC address (lower case) or by kernel name."""

    mac: str | None = None
    name: str | None = None

    def as_dict(self) -> dict[str, str]:
        """As roles receive it: exactly one of the two keys."""
        return {"mac": self.mac} if self.mac else {"name": self.name or ""}


@dataclass(frozen=True)
class Interface:
    """One network interface of a node; ``name`` is the operator's word for it."""

    name: str
    match: Match
    addresses: tuple[InterfaceAddress, ...]


@dataclass(frozen=True)
class NodeEntry:
    """One node.  ``address`` is where SSH answers and is one of its interfaces' addresses."""

    name: str
    connection: Literal["ssh", "local"]
    address: Address
    port: int
    interfaces: tuple[Interface, ...]

    @property
    def management_addresses(self) -> tuple[str, ...]:
        """The addresses of the interface on which SSH answers."""
        return tuple(
            str(each.ip)
            for interface in self.interfaces
            if self.address in {address.ip for address in interface.addresses}
            for each in interface.addresses
        )


@dataclass(frozen=True)
class Management:
    """Who may reach the nodes over SSH, and from where an operator does.

    ``operator`` lies in ``networks``; ``foreign`` (addresses of the same station, for the proof that
    others are refused) lies outside them.
    """

    networks: tuple[Network, ...]
    operator: tuple[Address, ...]
    foreign: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Ssh:
    """How SSH identifies both ends.  ``key`` None: the agent's keys.  Paths are absolute."""

    user: str
    key: Path | None
    known_hosts: Path


@dataclass(frozen=True)
class Inventory:
    """A site.  ``path`` is the file it was read from; ``ssh`` is None when every node is local."""

    path: Path
    site: str
    management: Management
    ssh: Ssh | None
    nodes: tuple[NodeEntry, ...]
    revert_after: int = 120
    inference_port: int = 8000

    def node(self, name: str) -> NodeEntry:
        """The node of that name; KeyError when there is none."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)


def site_values(inventory: Inventory) -> dict[str, object]:
    """``appliance_site``, as roles receive it."""
    management = inventory.management
    return {
        "name": inventory.site,
        "management": {
            "networks": [str(network) for network in management.networks],
            "operator": [str(address) for address in management.operator],
            "foreign": [str(address) for address in management.foreign],
        },
        "revert_after": inventory.revert_after,
        "inference": {"port": inventory.inference_port},
    }


def node_values(node: NodeEntry) -> dict[str, object]:
    """``appliance_node``, as roles receive it."""
    return {
        "name": node.name,
        "port": node.port,
        "interfaces": [
            {
                "name": interface.name,
                "match": interface.match.as_dict(),
                "addresses": [str(address) for address in interface.addresses],
            }
            for interface in node.interfaces
        ],
    }


def settings_digest(inventory: Inventory, node: NodeEntry) -> str:
    """SHA-256 (hex) over everything in the inventory that shapes this node's configuration.

    How SSH reaches the node is left out: another key file does not make another installation.
    """
    values = {"site": site_values(inventory), "node": node_values(node)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
