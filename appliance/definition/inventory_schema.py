"""What an operator writes in ``inventory.yml``, and its way into an ``Inventory``.

Three passes, each with the position of what it refuses: words that would lead traffic away
(``GatewayForbidden``), the shape and every single value (pydantic models below), and what values say
about each other (``inventory_rules``).  Nothing here opens a file.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from appliance.definition.disks_schema import Disks  # noqa: TC001 - pydantic reads it at run time
from appliance.definition.document import Document, Loc, read_document, validate_document
from appliance.definition.escrow_schema import EscrowKey  # noqa: TC001 - pydantic reads it at run time
from appliance.definition.export_schema import ExportKey  # noqa: TC001 - pydantic reads it at run time
from appliance.definition.host_schema import HostKeys
from appliance.definition.inventory import (
    Address,
    Bond,
    Flow,
    Interface,
    InterfaceAddress,
    Inventory,
    Management,
    Match,
    Network,
    NodeEntry,
    Peer,
    Route,
    Ssh,
    Vlan,
)
from appliance.definition.inventory_rules import first_conflict
from appliance.definition.inventory_values import (
    read_address,
    read_destination,
    read_interface_address,
    read_kernel_name,
    read_mac,
    read_network,
    read_pci,
    read_peer,
    read_ports,
)
from appliance.definition.partition_schema import GpusKey, read_gpus
from appliance.errors import GatewayForbidden, InventoryInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.errors import Location

_Some = TypeVar("_Some", tuple[object, ...], dict[str, object])

#: The kinds of interface that a node has.
_SECTIONS: Final = ("interfaces", "bonds", "vlans")
#: Where the keys are the operator's words, not ours.
_NAMED: Final = (*_SECTIONS, "flows", "disks", "teams")
#: How netplan, iproute2 and people write a route to everywhere.
_EVERYWHERE: Final = frozenset({"default", "0/0", "0.0.0.0/0", "::/0", "any", "all"})

#: Keys of netplan, ifupdown and cloud-init that would give a node a way out, wherever they stand.
FORBIDDEN: Final = frozenset(
    {
        *("gateway", "gateway4", "gateway6", "gateways", "route", "routes", "routing-policy"),
        *("nameserver", "nameservers", "dns", "dns-servers", "resolvers"),
        *("dhcp", "dhcp4", "dhcp6", "accept-ra", "proxy", "http-proxy", "https-proxy"),
    }
)


def parse_inventory(text: str, path: Path) -> tuple[Inventory, Document]:
    """Parse an inventory's text.

    Args:
        text: the file's content.
        path: the file, absolute; relative paths inside it are taken from its folder.

    Returns:
        The inventory, and the document for the positions of its values.

    Raises:
        GatewayForbidden: a key would give a node a gateway, DNS server or DHCP, or a listed route leads
            everywhere.
        InventoryInvalid: anything else that does not fit; ``where`` tells the place.
    """
    document = read_document(text, path, InventoryInvalid)
    _refuse_ways_out(document, document.values, ())
    written = validate_document(document, _Inventory, InventoryInvalid)
    inventory = _inventory(written, path, document)
    if conflict := first_conflict(inventory):
        where = document.where_key(conflict.loc) if conflict.at_key else document.where(conflict.loc)
        error = GatewayForbidden if conflict.way_out else InventoryInvalid
        raise error(conflict.message, found=conflict.found, wanted=conflict.wanted, where=where)
    return inventory, document


def _refuse_ways_out(document: Document, values: object, loc: Loc) -> None:
    if isinstance(values, list):
        for index, value in enumerate(values):
            _refuse_ways_out(document, value, (*loc, index))
    if isinstance(values, dict):
        named = loc == ("nodes",) or loc[-1:] in {(section,) for section in _NAMED}
        for key, value in values.items():
            is_name = named and isinstance(value, dict)
            plain = key.lower().replace("_", "-")
            if not is_name and plain in FORBIDDEN and not (key == "routes" and _may_have_routes(loc)):
                raise GatewayForbidden(
                    f"{key} is not allowed: an isolated node has no way out",
                    found=".".join(str(part) for part in (*loc, key)),
                    wanted="static addresses and listed routes only; no gateway, DNS server, proxy or DHCP",
                    hint="remove the key; operators reach nodes from the same link, or by a route that an "
                    "interface lists: routes: [{to: NETWORK, via: ADDRESS}]",
                    where=document.where_key((*loc, key)),
                )
            if key == "to" and "routes" in loc and str(value).strip().lower() in _EVERYWHERE:
                raise GatewayForbidden(
                    f"a route to {value} is a gateway: an isolated node has no way out",
                    found=str(value),
                    wanted="a network of the site, as in 10.40.0.0/16",
                    hint="list the networks that the node has to reach, one by one",
                    where=document.where((*loc, key)),
                )
            _refuse_ways_out(document, value, (*loc, key))


def _may_have_routes(loc: Loc) -> bool:
    """Whether a mapping is an interface, bond or VLAN of a node."""
    return len(loc) == 4 and loc[0] == "nodes" and loc[2] in _SECTIONS  # noqa: PLR2004 - nodes.NAME.section.NAME


def _some(values: _Some) -> _Some:
    """At least one; asked after the entries are read, so that a wrong entry is the first complaint."""
    if not values:
        raise ValueError("at least one is needed")
    return values


_AS_TEXT = WithJsonSchema({"type": "string"})
_Address = Annotated[Address, PlainValidator(read_address), _AS_TEXT]
_InterfaceAddress = Annotated[InterfaceAddress, PlainValidator(read_interface_address), _AS_TEXT]
_Network = Annotated[Network, PlainValidator(read_network), _AS_TEXT]
_Destination = Annotated[Network, PlainValidator(read_destination), _AS_TEXT]
_Mac = Annotated[str, PlainValidator(read_mac), _AS_TEXT]
_Pci = Annotated[str, PlainValidator(read_pci), _AS_TEXT]
_Ports = Annotated[
    tuple[int, int], PlainValidator(read_ports), WithJsonSchema({"type": ["integer", "string"]})
]
_Peer = Annotated[str, PlainValidator(read_peer), _AS_TEXT]
_KernelName = Annotated[str, PlainValidator(read_kernel_name), _AS_TEXT]
# RFC 1123 labels: node names become folders, SSH aliases and Ansible hosts.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
# What is made on the node bears its own name there, and in paths below /proc/sys/net.
_DeviceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,13}[a-z0-9]$")]
# 1280 bytes are IPv6's least (RFC 8200, 5); 9978 the most that Ethernet cards of this class offer.
_Mtu = Annotated[int, Field(ge=1280, le=9978)]
_User = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
_Path = Annotated[str, StringConstraints(pattern=r'^[^"\x00-\x1f\x7f]+$')]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Match(_Model):
    mac: _Mac | None = None
    pci: _Pci | None = None
    name: _KernelName | None = None


class _Route(_Model):
    to: _Destination
    via: _Address


class _Link(_Model):
    addresses: tuple[_InterfaceAddress, ...] = ()
    mtu: _Mtu | None = None
    link_local: bool = False
    routes: tuple[_Route, ...] = ()


class _Interface(_Link):
    match: _Match


class _Bond(_Link):
    interfaces: Annotated[tuple[_Name, ...], AfterValidator(_some)]
    mode: Literal["active-backup", "balance-xor", "802.3ad"]
    lacp_rate: Literal["slow", "fast"] | None = None
    transmit_hash_policy: Literal["layer2", "layer2+3", "layer3+4"] | None = None


class _Vlan(_Link):
    id: Annotated[int, Field(ge=1, le=4094)]
    link: _Name


class _Flow(_Model):
    interface: _Name
    direction: Literal["in", "out", "both"]
    protocol: Literal["tcp", "udp"]
    ports: Annotated[tuple[_Ports, ...], AfterValidator(_some)]
    peers: Annotated[tuple[_Peer, ...], AfterValidator(_some)]
    answers: bool | None = None


class _Node(_Model):
    connection: Literal["ssh", "local"] = "ssh"
    address: _Address
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    interfaces: Annotated[dict[_Name, _Interface], AfterValidator(_some)]
    bonds: dict[_DeviceName, _Bond] = Field(default_factory=dict)
    vlans: dict[_DeviceName, _Vlan] = Field(default_factory=dict)
    flows: dict[_Name, _Flow] = Field(default_factory=dict)
    export: ExportKey | None = None
    disks: Disks = Field(default_factory=dict)
    gpus: GpusKey | None = None


class _Management(_Model):
    networks: Annotated[tuple[_Network, ...], AfterValidator(_some)]
    operator: Annotated[tuple[_Address, ...], AfterValidator(_some)]
    foreign: tuple[_Address, ...] = ()


class _Ssh(_Model):
    user: _User = "root"
    key: _Path | None = None
    known_hosts: _Path


class _Inference(_Model):
    port: Annotated[int, Field(ge=1024, le=65535)] = 8000


class _Inventory(HostKeys):
    format: Literal[1]
    site: _Name
    management: _Management
    ssh: _Ssh | None = None
    revert_after: Annotated[int, Field(ge=30, le=3600)] = 120
    nodes: Annotated[dict[_Name, _Node], AfterValidator(_some)]
    inference: _Inference = _Inference()
    escrow: EscrowKey | None = None


def _inventory(written: _Inventory, path: Path, document: Document) -> Inventory:
    folder = path.parent
    ssh: Ssh | None = None
    if written.ssh:
        key = folder / written.ssh.key if written.ssh.key else None
        ssh = Ssh(user=written.ssh.user, key=key, known_hosts=folder / written.ssh.known_hosts)
    management = written.management
    return Inventory(
        path=path,
        site=written.site,
        management=Management(management.networks, management.operator, management.foreign),
        ssh=ssh,
        nodes=_nodes(written.nodes, document),
        revert_after=written.revert_after,
        inference_port=written.inference.port,
        host=written.host(),
        escrow=written.escrow.escrow() if written.escrow else None,
        document=document,
    )


def _nodes(written: Mapping[str, _Node], document: Document) -> tuple[NodeEntry, ...]:
    """All nodes; flows last, as their peers may be nodes that are written further down."""
    nodes = {name: _node(name, node, document) for name, node in written.items()}
    return tuple(
        replace(
            node,
            flows=tuple(_flow(key, flow, node, nodes) for key, flow in written[name].flows.items()),
        )
        for name, node in nodes.items()
    )


def _flow(name: str, written: _Flow, node: NodeEntry, nodes: Mapping[str, NodeEntry]) -> Flow:
    reach = [
        network
        for interface in node.interfaces
        if interface.name == written.interface
        for network in interface.reach
    ]
    return Flow(
        name,
        written.interface,
        written.direction,
        written.protocol,
        written.ports,
        tuple(Peer(text, _addresses(text, reach, nodes)) for text in written.peers),
        answers=written.protocol == "tcp" or bool(written.answers),
    )


def _addresses(text: str, reach: Sequence[Network], nodes: Mapping[str, NodeEntry]) -> tuple[Address, ...]:
    """The addresses of a peer: its own if it is one, or those of the node that are within reach."""
    with suppress(ValueError):
        return (ip_address(text),)
    found = nodes[text].interfaces if text in nodes else ()
    own = [each.ip for interface in found for each in interface.addresses]
    return tuple(address for address in own if any(address in network for network in reach))


def _node(name: str, written: _Node, document: Document) -> NodeEntry:
    def where(loc: Loc) -> Location:
        return document.where(("nodes", name, "gpus", *loc))

    return NodeEntry(
        name=name,
        connection=written.connection,
        address=written.address,
        port=written.port,
        interfaces=(
            *(
                _interface(key, card, Match(card.match.mac, card.match.name, card.match.pci))
                for key, card in written.interfaces.items()
            ),
            *(
                _interface(
                    key,
                    bond,
                    bond=Bond(bond.interfaces, bond.mode, bond.lacp_rate, bond.transmit_hash_policy),
                )
                for key, bond in written.bonds.items()
            ),
            *(_interface(key, vlan, vlan=Vlan(vlan.id, vlan.link)) for key, vlan in written.vlans.items()),
        ),
        export=written.export.export() if written.export else None,
        disks=tuple(disk.disk(key) for key, disk in written.disks.items()),
        partition=read_gpus(written.gpus, where) if written.gpus else None,
    )


def _interface(
    name: str,
    link: _Link,
    match: Match | None = None,
    *,
    bond: Bond | None = None,
    vlan: Vlan | None = None,
) -> Interface:
    return Interface(
        name,
        match or Match(),
        link.addresses,
        mtu=link.mtu,
        link_local=link.link_local,
        routes=tuple(Route(each.to, each.via) for each in link.routes),
        bond=bond,
        vlan=vlan,
    )
