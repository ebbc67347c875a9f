"""What a frame says, octet by octet: Ethernet, VLAN tags, ARP, IPv4, IPv6, TCP, UDP, ICMPv6.  Pure.

It is read to be judged, so nothing is passed over: a length that does not fit, a byte too many or a header
that nobody asked for makes the frame one that is not understood (``NotUnderstood``), and such a frame is
never allowed.  Check sums are not looked at: a card adds them after a capture inside the machine.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

Address = IPv4Address | IPv6Address

ARP, IPV4, IPV6, TAGGED, SLOW, PTP = 0x0806, 0x0800, 0x86DD, 0x8100, 0x8809, 0x88F7
TCP, UDP, ICMPV6 = 6, 17, 58
SYN: Final = 0x02
#: FIN, SYN, RST, ACK: of these only SYN is set in a segment that opens a connection (iptables' ``--syn``).
_OPENING: Final = 0x17
#: Shorter frames are filled up with zeroes (IEEE 802.3), not counting check sum and tag.
_SHORTEST: Final = 60
#: RFC 2711 (router alert), value 0 (multicast listener discovery), and two bytes of padding.
_ROUTER_ALERT: Final = bytes.fromhex("050200000100")
_HOP_BY_HOP: Final = 0
#: Smaller numbers in a type's place are lengths (IEEE 802.3).
_LEAST_TYPE: Final = 0x0600


class NotUnderstood(ValueError):
    """The frame is not of a kind that can be allowed; says why."""


@dataclass(frozen=True)
class Ethernet:
    """A frame: addresses as text in lower case, ``vlan`` by number (None: not tagged), what it carries."""

    destination: str
    source: str
    vlan: int | None
    kind: int
    payload: bytes
    #: Whether it is so short that zeroes may have been added to it on the way.
    filled: bool

    @property
    def to_many(self) -> bool:
        """Whether it goes to a group or to everybody."""
        return bool(int(self.destination[:2], 16) & 1)


@dataclass(frozen=True)
class Arp:
    """An ARP message for IPv4 over Ethernet (RFC 826); ``asks``: a request, otherwise a reply."""

    asks: bool
    sender_mac: str
    sender: IPv4Address
    target: IPv4Address


@dataclass(frozen=True)
class Packet:
    """An IP packet that is whole; ``hops``: time to live, ``alert``: routers are to look at it."""

    source: Address
    destination: Address
    hops: int
    protocol: int
    payload: bytes
    alert: bool = False


@dataclass(frozen=True)
class Segment:
    """What TCP or UDP says: ports, and of TCP whether it opens a connection."""

    source: int
    destination: int
    opens: bool


def parse_ethernet(data: bytes) -> Ethernet:
    """A frame's own header, and the one VLAN tag it may have.

    Raises:
        NotUnderstood: it is too short, tagged twice, or of no type but a length.
    """
    if len(data) < 14:  # noqa: PLR2004 - two addresses of six bytes, and a type of two
        raise NotUnderstood("shorter than an Ethernet header")
    (kind,) = struct.unpack_from("!H", data, 12)
    vlan, at = None, 14
    if kind == TAGGED:
        if len(data) < 18:  # noqa: PLR2004 - the tag adds four
            raise NotUnderstood("shorter than its VLAN tag")
        tag, kind = struct.unpack_from("!HH", data, 14)
        vlan, at = tag & 0x0FFF, 18
    if kind == TAGGED:
        raise NotUnderstood("tagged twice")
    if kind < _LEAST_TYPE:
        raise NotUnderstood(f"a length ({kind}) where its type should be: spanning tree, LLC or the like")
    filled = len(data) <= _SHORTEST + at - 14
    return Ethernet(_mac(data[:6]), _mac(data[6:12]), vlan, kind, data[at:], filled)


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def parse_arp(frame: Ethernet) -> Arp:
    """An ARP message.

    Raises:
        NotUnderstood: it is for other addresses than Ethernet's and IPv4's, or neither asks nor answers.
    """
    size = struct.calcsize("!HHBBH6s4s6s4s")
    if len(frame.payload) < size:
        raise NotUnderstood("shorter than an ARP message")
    fields = struct.unpack_from("!HHBBH6s4s6s4s", frame.payload)
    if fields[:4] != (1, IPV4, 6, 4) or fields[4] not in {1, 2}:
        raise NotUnderstood("ARP, but no request or reply for IPv4 over Ethernet")
    _check_rest(frame, size)
    return Arp(fields[4] == 1, _mac(fields[5]), IPv4Address(fields[6]), IPv4Address(fields[8]))


def _check_rest(frame: Ethernet, size: int) -> None:
    """What follows the ``size`` bytes of a message is what Ethernet fills short frames up with."""
    rest = frame.payload[size:]
    if rest and (any(rest) or not frame.filled):
        raise NotUnderstood(f"{len(rest)} bytes after the end of what it carries")


def parse_packet(frame: Ethernet) -> Packet:
    """The IP packet of a frame.

    Raises:
        NotUnderstood: its lengths do not fit, it is a part of a packet, or it has options.
    """
    return _packet4(frame) if frame.kind == IPV4 else _packet6(frame)


def _packet4(frame: Ethernet) -> Packet:
    data = frame.payload
    if len(data) < 20:  # noqa: PLR2004 - a header without options
        raise NotUnderstood("shorter than an IPv4 header")
    first, _, total, _, part, hops, protocol, _, source, destination = struct.unpack_from(
        "!BBHHHBBH4s4s", data
    )
    if first >> 4 != 4:  # noqa: PLR2004 - the version
        raise NotUnderstood(f"IPv4 by its type, version {first >> 4} by its header")
    if first & 0x0F != 5:  # noqa: PLR2004 - words of a header without options
        raise NotUnderstood("IPv4 options")
    if part & 0x3FFF:
        raise NotUnderstood("a fragment")
    if not 20 <= total <= len(data):  # noqa: PLR2004 - as above
        raise NotUnderstood(f"says it has {total} bytes, and {len(data)} are there")
    _check_rest(frame, total)
    return Packet(IPv4Address(source), IPv4Address(destination), hops, protocol, data[20:total])


def _packet6(frame: Ethernet) -> Packet:
    data = frame.payload
    if len(data) < 40:  # noqa: PLR2004 - a fixed header
        raise NotUnderstood("shorter than an IPv6 header")
    first, length, protocol, hops, source, destination = struct.unpack_from("!IHBB16s16s", data)
    if first >> 28 != 6:  # noqa: PLR2004 - the version
        raise NotUnderstood(f"IPv6 by its type, version {first >> 28} by its header")
    if 40 + length > len(data):
        raise NotUnderstood(f"says it carries {length} bytes, and {len(data) - 40} are there")
    _check_rest(frame, 40 + length)
    payload, alert = data[40 : 40 + length], False
    if protocol == _HOP_BY_HOP:
        if len(payload) < 8 or payload[1] != 0 or payload[2:8] != _ROUTER_ALERT:  # noqa: PLR2004 - eight bytes
            raise NotUnderstood("IPv6 options for every hop, other than those of group reports")
        protocol, payload, alert = payload[0], payload[8:], True
    return Packet(IPv6Address(source), IPv6Address(destination), hops, protocol, payload, alert)


def parse_segment(packet: Packet) -> Segment:
    """The ports of a packet of TCP or UDP.

    Raises:
        NotUnderstood: it is neither, or its lengths do not fit.
    """
    data = packet.payload
    if packet.protocol == UDP:
        if len(data) < 8 or struct.unpack_from("!H", data, 4)[0] != len(data):  # noqa: PLR2004 - a header
            raise NotUnderstood("UDP whose length does not fit")
        source, destination = struct.unpack_from("!HH", data)
        return Segment(source, destination, opens=True)
    if packet.protocol != TCP:
        raise NotUnderstood(f"protocol {packet.protocol} of IP, which nothing is allowed by")
    if len(data) < 20 or not 20 <= (data[12] >> 4) * 4 <= len(data):  # noqa: PLR2004 - a header
        raise NotUnderstood("TCP whose header does not fit")
    source, destination = struct.unpack_from("!HH", data)
    return Segment(source, destination, opens=data[13] & _OPENING == SYN)
