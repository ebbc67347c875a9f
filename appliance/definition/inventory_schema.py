"""What an operator writes in ``inventory.yml``, and its way into an ``Inventory``.

Three passes, each with the position of what it refuses: words that would lead traffic away
(``GatewayForbidden``), the shape and every single value (pydantic models below), and what values say
about each other (``inventory_rules``).  Nothing here opens a file.
"""

from __future__ import annotations

import re
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    NetmaskValueError,
)
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

from appliance.definition.document import Document, Loc, read_document, validate_document
from appliance.definition.host_schema import HostKeys
from appliance.definition.inventory import (
    Address,
    Interface,
    InterfaceAddress,
    Inventory,
    Management,
    Match,
    Network,
    NodeEntry,
    Ssh,
)
from appliance.definition.inventory_rules import first_conflict
from appliance.errors import GatewayForbidden, InventoryInvalid

if TYPE_CHECKING:
    from pathlib import Path

_Some = TypeVar("_Some", tuple[object, ...], dict[str, object])

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
        GatewayForbidden: a key would give a node a gateway, route, DNS server or DHCP.
        InventoryInvalid: anything else that does not fit; ``where`` tells the place.
    """
    document = read_document(text, path, InventoryInvalid)
    _refuse_ways_out(document, document.values, ())
    written = validate_document(document, _Inventory, InventoryInvalid)
    inventory = _inventory(written, path)
    if conflict := first_conflict(inventory):
        where = document.where_key(conflict.loc) if conflict.at_key else document.where(conflict.loc)
        raise InventoryInvalid(conflict.message, found=conflict.found, wanted=conflict.wanted, where=where)
    return inventory, document


def _refuse_ways_out(document: Document, values: object, loc: Loc) -> None:
    if isinstance(values, list):
        for index, value in enumerate(values):
            _refuse_ways_out(document, value, (*loc, index))
    if isinstance(values, dict):
        named = loc == ("nodes",) or loc[-1:] == ("interfaces",)  # keys here are the operator's words
        for key, value in values.items():
            is_name = named and isinstance(value, dict)
            if not is_name and key.lower().replace("_", "-") in FORBIDDEN:
                raise GatewayForbidden(
                    f"{key} is not allowed: an isolated node has no way out",
                    found=".".join(str(part) for part in (*loc, key)),
                    wanted="static addresses only; no gateway, route, DNS server, proxy or DHCP",
                    hint="remove the key; operators reach nodes from the same link",
                    where=document.where_key((*loc, key)),
                )
            _refuse_ways_out(document, value, (*loc, key))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    if "%" in value:
        raise ValueError("an address with a zone (%) means something else on every machine")
    return value


def _address(value: object) -> Address:
    text = _text(value)
    try:
        address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError as fault:
        raise ValueError(f"not an IP address ({fault})") from None
    return _usable(address)


def _interface_address(value: object) -> InterfaceAddress:
    text = _text(value)
    if "/" not in text:
        raise ValueError("a prefix length is needed, as in 10.20.0.11/24")
    try:
        interface: InterfaceAddress = IPv6Interface(text) if ":" in text else IPv4Interface(text)
    except (AddressValueError, NetmaskValueError) as fault:
        raise ValueError(f"not an address with a prefix length ({fault})") from None
    if not re.fullmatch(r"[0-9]+", text.rpartition("/")[2]):
        raise ValueError("a prefix length in digits is needed, as in 10.20.0.11/24")
    _usable(interface.ip)
    network = interface.network
    if network.prefixlen == 0:
        raise ValueError("a prefix length of 0 makes the whole world local")
    if network.num_addresses > 2:  # noqa: PLR2004 - /31 and /127 are point to point: RFC 3021, RFC 6164
        if interface.ip == network.network_address:
            raise ValueError(f"{interface.ip} is the address of the network {network}, not of a node")
        if network.version == 4 and interface.ip == network.broadcast_address:  # noqa: PLR2004 - IPv4
            raise ValueError(f"{interface.ip} is the broadcast address of {network}")
    return interface


def _usable(address: Address) -> Address:
    for bad, kind in (
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address; it needs no configuration and names no node"),
        (address.version == 4 and address.is_reserved, "a reserved address"),  # noqa: PLR2004 - IPv4
        (isinstance(address, IPv6Address) and address.ipv4_mapped, "an IPv4 address in IPv6 clothes"),
    ):
        if bad:
            raise ValueError(f"{address} is {kind}")
    return address


def _network(value: object) -> Network:
    text = _text(value)
    if not re.fullmatch(r"[^/]+/[0-9]+", text):
        raise ValueError("a network with a prefix length in digits is needed, as in 10.20.0.0/28")
    kind: type[IPv6Network | IPv4Network] = IPv6Network if ":" in text else IPv4Network
    try:
        network: Network = kind(text, strict=False)
    except (AddressValueError, NetmaskValueError) as fault:
        raise ValueError(f"not a network ({fault})") from None
    if str(network.network_address) != str(_ip(text)):
        raise ValueError(f"{text} has host bits set; the network is {network}")
    if network.prefixlen == 0:
        raise ValueError("a network of everything protects nothing")
    return network


def _ip(text: str) -> Address:
    host = text.partition("/")[0]
    return IPv6Address(host) if ":" in host else IPv4Address(host)


def _mac(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    mac = value.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise ValueError("not a MAC address; six pairs of hexadecimal digits, as in 02:00:00:00:00:01")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError("a MAC address of many stations or of none, not of one")
    return mac


def _some(values: _Some) -> _Some:
    """At least one; asked after the entries are read, so that a wrong entry is the first complaint."""
    if not values:
        raise ValueError("at least one is needed")
    return values


_AS_TEXT = WithJsonSchema({"type": "string"})
_Address = Annotated[Address, PlainValidator(_address), _AS_TEXT]
_InterfaceAddress = Annotated[InterfaceAddress, PlainValidator(_interface_address), _AS_TEXT]
_Network = Annotated[Network, PlainValidator(_network), _AS_TEXT]
_Mac = Annotated[str, PlainValidator(_mac), _AS_TEXT]
# RFC 1123 labels: node names become folders, SSH aliases and Ansible hosts.
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
# IFNAMSIZ is 16 with the final zero: linux/if.h.
_KernelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,15}$")]
_User = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]
_Path = Annotated[str, StringConstraints(pattern=r'^[^"\x00-\x1f\x7f]+$')]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Match(_Model):
    mac: _Mac | None = None
    name: _KernelName | None = None


class _Interface(_Model):
    match: _Match
    addresses: Annotated[tuple[_InterfaceAddress, ...], AfterValidator(_some)]


class _Node(_Model):
    connection: Literal["ssh", "local"] = "ssh"
    address: _Address
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    interfaces: Annotated[dict[_Name, _Interface], AfterValidator(_some)]


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


def _inventory(written: _Inventory, path: Path) -> Inventory:
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
        nodes=tuple(_node(name, node) for name, node in written.nodes.items()),
        revert_after=written.revert_after,
        inference_port=written.inference.port,
        host=written.host(),
    )


def _node(name: str, written: _Node) -> NodeEntry:
    return NodeEntry(
        name=name,
        connection=written.connection,
        address=written.address,
        port=written.port,
        interfaces=tuple(
            Interface(key, Match(entry.match.mac, entry.match.name), entry.addresses)
            for key, entry in written.interfaces.items()
        ),
    )
