"""The inventory as the program uses it: a site, how its nodes are reached, what each node is called.

These are plain values; ``inventory_schema`` makes them out of what an operator wrote, with a position
for every complaint.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING, Literal

from appliance.definition.host import Host

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.disks import Disk
    from appliance.definition.document import Document, Loc
    from appliance.definition.escrow import Escrow
    from appliance.definition.export import Export
    from appliance.definition.partition import Partition
    from appliance.errors import Location

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network


@dataclass(frozen=True)
class Match:
    """How a card is recognised on the node: by MAC address or PCI address (lower case), or kernel name.

    All None for what is made on the node (bonds, VLANs).
    """

    mac: str | None = None
    name: str | None = None
    pci: str | None = None

    def as_dict(self) -> dict[str, str]:
        """As roles receive it: at most one key."""
        values = {"mac": self.mac, "pci": self.pci, "name": self.name}
        return {key: value for key, value in values.items() if value}

    def __str__(self) -> str:
        words = {"mac": "MAC address", "pci": "PCI address", "name": "the name"}
        return " or ".join(f"{words[key]} {value}" for key, value in self.as_dict().items()) or "nothing"


@dataclass(frozen=True)
class Route:
    """A listed way beyond the wire: ``to`` is reached by ``via``, which is on the interface's own wire."""

    to: Network
    via: Address

    def as_dict(self) -> dict[str, str]:
        return {"to": str(self.to), "via": str(self.via)}


@dataclass(frozen=True)
class Bond:
    """Several cards as one link.  ``mode`` and the others are the kernel's words (bonding.rst)."""

    interfaces: tuple[str, ...]
    mode: str
    lacp_rate: str | None = None
    transmit_hash_policy: str | None = None

    def as_dict(self) -> dict[str, object]:
        values = {
            "interfaces": list(self.interfaces),
            "mode": self.mode,
            "lacp_rate": self.lacp_rate,
            "transmit_hash_policy": self.transmit_hash_policy,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class Vlan:
    """A tagged network on another link: VLAN ``id`` (IEEE 802.1Q) on the interface or bond ``link``."""

    id: int
    link: str

    def as_dict(self) -> dict[str, object]:
        return {"id": self.id, "link": self.link}


@dataclass(frozen=True)
class Interface:
    """One network interface of a node; ``name`` is the operator's word for it.

    A card has a ``match``; what is made on the node is a ``bond`` or a ``vlan`` and bears its name there.
    ``mtu`` in bytes; None: what the card has.  ``link_local``: whether IPv6 makes itself an address.
    """

    name: str
    match: Match
    addresses: tuple[InterfaceAddress, ...]
    mtu: int | None = None
    link_local: bool = False
    routes: tuple[Route, ...] = ()
    bond: Bond | None = None
    vlan: Vlan | None = None

    @property
    def section(self) -> str:
        """The key under which the inventory has it."""
        return "bonds" if self.bond else "vlans" if self.vlan else "interfaces"

    @property
    def reach(self) -> tuple[Network, ...]:
        """Networks that packets go to over this interface: its own wire's, and those of its routes."""
        return (*(each.network for each in self.addresses), *(route.to for route in self.routes))

    def as_dict(self) -> dict[str, object]:
        """As roles receive it; what is not asked for is left out."""
        values: dict[str, object] = {"name": self.name}
        if not (self.bond or self.vlan):
            values["match"] = self.match.as_dict()
        values["addresses"] = [str(address) for address in self.addresses]
        optional = {
            "mtu": self.mtu,
            "link_local": self.link_local,
            "routes": [route.as_dict() for route in self.routes],
            "bond": self.bond and self.bond.as_dict(),
            "vlan": self.vlan and self.vlan.as_dict(),
        }
        return values | {key: value for key, value in optional.items() if value}


@dataclass(frozen=True)
class Peer:
    """Who a flow is with, as written: an address, or another node and its addresses within reach."""

    text: str
    addresses: tuple[Address, ...]


@dataclass(frozen=True)
class Flow:
    """Packets that the firewall lets through besides management SSH.

    ``direction`` is who begins: a peer (``in``), this node (``out``), or either.  ``ports``: those that are
    spoken to, lowest and highest.  ``answers``: whether packets of the same exchange may come back; a TCP
    connection has them always.
    """

    name: str
    interface: str
    direction: Literal["in", "out", "both"]
    protocol: Literal["tcp", "udp"]
    ports: tuple[tuple[int, int], ...]
    peers: tuple[Peer, ...]
    answers: bool = False

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every peer's."""
        return tuple(address for peer in self.peers for address in peer.addresses)

    def goes(self, direction: Literal["in", "out"]) -> bool:
        """Whether packets that begin an exchange pass this way."""
        return self.direction in {direction, "both"}

    def as_dict(self) -> dict[str, object]:
        """As roles receive it; port ranges as ufw and iptables write them."""
        return {
            "name": self.name,
            "interface": self.interface,
            "directions": [each for each in ("in", "out") if self.direction in {each, "both"}],
            "protocol": self.protocol,
            "ports": [str(low) if low == high else f"{low}:{high}" for low, high in self.ports],
            "peers": [str(address) for address in self.addresses],
            "answers": self.answers,
        }


@dataclass(frozen=True)
class NodeEntry:
    """One node.  ``address`` is where SSH answers and is one of its interfaces' addresses.

    ``export``: how its logs leave; None: they do not.  ``disks``: its encrypted drives.
    ``partition``: what its GPUs are cut into and for whom; None: one server has them all, as they are.

    ``interfaces``: cards, then bonds, then VLANs, each in the order of the inventory.
    """

    name: str
    connection: Literal["ssh", "local"]
    address: Address
    port: int
    interfaces: tuple[Interface, ...]
    flows: tuple[Flow, ...] = ()
    export: Export | None = None
    disks: tuple[Disk, ...] = ()
    partition: Partition | None = None

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
    """A site.  ``path`` is the file it was read from; ``ssh`` is None when every node is local.

    ``document``: where its values are written, for complaints that come later than reading.
    """

    path: Path
    site: str
    management: Management
    ssh: Ssh | None
    nodes: tuple[NodeEntry, ...]
    revert_after: int = 120
    inference_port: int = 8000
    host: Host = field(default_factory=Host)
    escrow: Escrow | None = None
    document: Document | None = field(default=None, compare=False, repr=False)

    def where(self, loc: Loc) -> Location | None:
        """Where a value is written; None for an inventory that was not read from a file."""
        return self.document.where(loc) if self.document else None

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
        "ssh_user": inventory.ssh.user if inventory.ssh else "",
        "host": inventory.host.as_dict(),
    }


def node_values(node: NodeEntry) -> dict[str, object]:
    """``appliance_node``, as roles receive it."""
    return {
        "name": node.name,
        "port": node.port,
        "interfaces": [interface.as_dict() for interface in node.interfaces],
        **({"flows": [flow.as_dict() for flow in node.flows]} if node.flows else {}),
        **({"export": node.export.as_dict()} if node.export else {}),
        **({"disks": [disk.as_dict() for disk in node.disks]} if node.disks else {}),
        **({"gpus": node.partition.for_roles()} if node.partition else {}),
    }


def settings_digest(inventory: Inventory, node: NodeEntry) -> str:
    """SHA-256 (hex) over everything in the inventory that shapes this node's configuration.

    How SSH reaches the node is left out: another key file does not make another installation.
    """
    values = {"site": site_values(inventory), "node": node_values(node)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
