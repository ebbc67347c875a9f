"""What an IPv6 node says to its wire by itself: neighbour discovery and reports of groups.  Pure.

RFC 4861 (sections 4.3, 4.4, 7.1), RFC 3810 (section 5.2) and RFC 4291 (2.7.1).  As in ``packet``, whatever
is there besides makes the message one that is not understood.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from appliance.frames.packet import NotUnderstood

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.frames.packet import Packet

SOLICITATION, ADVERTISEMENT, GROUPS = 135, 136, 143
_NAMES: Final = {
    1: "destination unreachable",
    128: "echo request",
    129: "echo reply",
    130: "question after groups",
    131: "group report of version 1",
    132: "group left, of version 1",
    133: "router solicitation",
    134: "router advertisement",
    137: "redirect",
}
#: Options of neighbour discovery: whose link address, and the nonce of RFC 7527.
_SOURCE_LINK, _TARGET_LINK, _NONCE = 1, 2, 14
_SOLICITED: Final = int(IPv6Address("ff02::1:ff00:0"))
ALL_NODES: Final = IPv6Address("ff02::1")
ALL_REPORTERS: Final = IPv6Address("ff02::16")


@dataclass(frozen=True)
class Neighbour:
    """A solicitation or an advertisement: about whom, and the link address it names, if it does."""

    asks: bool
    target: IPv6Address
    link: str | None


@dataclass(frozen=True)
class Report:
    """Which groups a node says it listens to, or has left."""

    groups: tuple[IPv6Address, ...]


def solicited_group(address: IPv6Address) -> IPv6Address:
    """The group in which solicitations for an address are sent."""
    return IPv6Address(_SOLICITED | int(address) & 0xFFFFFF)


def group_mac(group: IPv6Address) -> str:
    """Where Ethernet sends what is for a group of IPv6 (RFC 2464, section 7)."""
    return (b"\x33\x33" + group.packed[-4:]).hex(":")


def parse_message(packet: Packet) -> Neighbour | Report:
    """The message of a packet of ICMPv6.

    Raises:
        NotUnderstood: it is of another kind, came over a router, or does not fit.
    """
    data = packet.payload
    if len(data) < 8:  # noqa: PLR2004 - the header of every kind here
        raise NotUnderstood("shorter than an ICMPv6 message")
    kind, code = data[0], data[1]
    if kind not in {SOLICITATION, ADVERTISEMENT, GROUPS} or code:
        raise NotUnderstood(f"ICMPv6 of type {kind} ({_NAMES.get(kind, 'no name')}), code {code}")
    if kind == GROUPS:
        return _report(packet)
    if packet.hops != 255 or packet.alert or len(data) < 24:  # noqa: PLR2004 - RFC 4861, 7.1
        raise NotUnderstood("a neighbour message that is none (hop limit, options or length)")
    link = None
    for option, value in _options(data[24:]):
        if (kind, option) in {(SOLICITATION, _SOURCE_LINK), (ADVERTISEMENT, _TARGET_LINK)} and link is None:
            link = value.hex(":")
        elif (kind, option) != (SOLICITATION, _NONCE):
            raise NotUnderstood(f"a neighbour message with option {option}")
    return Neighbour(kind == SOLICITATION, IPv6Address(data[8:24]), link)


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Options one by one; all those allowed here are eight bytes long."""
    for at in range(0, len(data), 8):
        if len(data) < at + 8 or data[at + 1] != 1:
            raise NotUnderstood("a neighbour message with an option that does not fit")
        yield data[at], data[at + 2 : at + 8]


def _report(packet: Packet) -> Report:
    data = packet.payload
    if (packet.hops, packet.alert, packet.destination) != (1, True, ALL_REPORTERS):
        raise NotUnderstood("a group report that is none (hop limit, router alert or destination)")
    (count,) = struct.unpack_from("!H", data, 6)
    if len(data) != 8 + 20 * count:
        raise NotUnderstood("a group report with sources, or that does not fit")
    groups = []
    for at in range(8, len(data), 20):
        if data[at + 1 : at + 4] != bytes(3):
            raise NotUnderstood("a group report with sources or other data")
        groups.append(IPv6Address(data[at + 4 : at + 20]))
    return Report(tuple(groups))
