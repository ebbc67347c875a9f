"""Single values of an inventory: text in, an address, network, MAC or PCI address out, or why not.

What is wrong raises ``ValueError``; pydantic collects it, and the schema adds the position.
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
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.definition.inventory import Address, InterfaceAddress, Network

#: Names the kernel gives in the order in which it finds cards: another card in, and they move.
_NUMBERED: Final = re.compile(r"(eth|ib|usb|wlan|wwan)[0-9]+")


class Contradiction(ValueError):
    """A value that is well-formed and contradicts the isolation; ``wanted`` is told beside the message."""

    def __init__(self, message: str, wanted: str) -> None:
        super().__init__(message)
        self.wanted = wanted


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    if "%" in value:
        raise ValueError("an address with a zone (%) means something else on every machine")
    return value


def read_address(value: object) -> Address:
    """A host's address."""
    text = _text(value)
    try:
        address: Address = IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError as fault:
        raise ValueError(f"not an IP address ({fault})") from None
    return _usable(address)


def read_interface_address(value: object) -> InterfaceAddress:
    """An address of an interface, with the length of its network's prefix."""
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


def read_network(value: object) -> Network:
    """A network that is smaller than everything."""
    network = read_destination(value)
    if network.prefixlen == 0:
        raise Contradiction("a network of everything protects nothing", "a network of the site")
    return network


def read_destination(value: object) -> Network:
    """Where a route leads: any network; how wide it may be, ``inventory_links`` judges."""
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
    return network


def _ip(text: str) -> Address:
    host = text.partition("/")[0]
    return IPv6Address(host) if ":" in host else IPv4Address(host)


def read_mac(value: object) -> str:
    """A MAC address of one station, in lower case."""
    if not isinstance(value, str):
        raise ValueError("must be text; put it in quotes")  # noqa: TRY004 - pydantic collects ValueError
    mac = value.lower()
    if not re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac):
        raise ValueError("not a MAC address; six pairs of hexadecimal digits, as in 02:00:00:00:00:01")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise ValueError("a MAC address of many stations or of none, not of one")
    return mac


def read_pci(value: object) -> str:
    """The PCI address of a card's function, as ``lspci -D`` prints it, in lower case."""
    text = _text(value).lower()
    if not re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]", text):
        raise ValueError("not a PCI address; domain, bus, device and function, as in 0000:5e:00.0")
    return text


def read_ports(value: object) -> tuple[int, int]:
    """A port, or two with a hyphen and all between; lowest and highest."""
    found = (
        re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", str(value)) if not isinstance(value, bool) else None
    )
    if found is None:
        raise ValueError("not a port or range of ports, as in 4791 or 50000-50999")
    low, high = int(found[1]), int(found[2] or found[1])
    if not 1 <= low <= high <= 65535:  # noqa: PLR2004 - sixteen bits
        raise ValueError("ports are 1 to 65535, the lower one first")
    return low, high


def read_peer(value: object) -> str:
    """An address, or the name of another node; what is a network is nobody."""
    text = _text(value)
    if "/" in text:
        raise Contradiction(
            f"{text} is a network, and a flow to whoever is there contradicts isolation; name each peer by "
            "its address, or as a node of this inventory",
            "the address of one peer, or a node of this inventory",
        )
    if re.fullmatch(r"[0-9.]+", text) or ":" in text:
        return str(read_address(text))
    return text


def read_kernel_name(value: object) -> str:
    """A kernel name that firmware, slot or place gives; one given in order of discovery moves."""
    text = _text(value)
    # IFNAMSIZ is 16 with the final zero: linux/if.h.
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", text):
        raise ValueError("not the name of an interface: at most 15 letters, digits, hyphens and dots")
    if _NUMBERED.fullmatch(text):
        raise Contradiction(
            f"{text} is a number in order of discovery, and another card may have it after the next start; "
            "write mac: or pci:",
            "a name by firmware, slot or place, or mac:, or pci:",
        )
    return text
