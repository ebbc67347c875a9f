"""Is a frame that a node sent one of those allowed?  What is not known to be allowed is beyond.  Pure.

docs/frames.md has the policy in words; it follows from the inventory, as the firewall's rules do, and is
written down here once more, without them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from appliance.definition.host_rules import NTP
from appliance.frames.neighbours import (
    ALL_NODES,
    Neighbour,
    Report,
    group_mac,
    parse_message,
    solicited_group,
)
from appliance.frames.packet import (
    ARP,
    ICMPV6,
    IPV4,
    IPV6,
    PTP,
    SLOW,
    TCP,
    UDP,
    Ethernet,
    NotUnderstood,
    Packet,
    Segment,
    parse_arp,
    parse_ethernet,
    parse_packet,
    parse_segment,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Flow
    from appliance.frames.cable import Cable, Link
    from appliance.frames.packet import Address

_EVERYBODY: Final = "ff:ff:ff:ff:ff:ff"
_NOBODY4, _NOBODY6 = IPv4Address(0), IPv6Address(0)
#: IEEE 802.1AX: the slow protocols' group, subtype 1, 110 bytes.
_LACP_GROUP, _LACP_SUBTYPE, _LACP_SIZE = "01:80:c2:00:00:02", 1, 110
#: IEEE 1588, annex on Ethernet: messages to all, and those between neighbours.
_PTP_GROUPS: Final = {"01:1b:19:00:00:00", "01:80:c2:00:00:0e"}


class Beyond(Exception):
    """The frame is beyond what is allowed; says why."""


def allowed_as(cable: Cable, data: bytes) -> str:
    """What a frame that was sent over a cable is allowed as: a word to count by.

    Raises:
        Beyond: it is not allowed.
    """
    try:
        frame = parse_ethernet(data)
        return _frame(cable, frame)
    except NotUnderstood as fault:
        raise Beyond(str(fault)) from None


def _frame(cable: Cable, frame: Ethernet) -> str:
    if cable.macs is not None and frame.source not in cable.macs:
        raise Beyond(f"sent from {frame.source}, which is not {cable.card}'s address")
    if not cable.links:
        raise Beyond(f"the inventory has no card {cable.card}")
    if frame.kind == SLOW and frame.vlan is None:
        return _lacp(cable, frame)
    link = cable.links.get(frame.vlan)
    if link is None:
        raise Beyond(f"VLAN {frame.vlan} is not declared on {cable.card}")
    if frame.kind == ARP:
        return _arp(link, frame)
    if frame.kind in {IPV4, IPV6}:
        return _packet(link, frame, parse_packet(frame))
    if frame.kind == PTP and link.ptp and frame.destination in _PTP_GROUPS:
        return "time (PTP)"
    raise Beyond(f"a frame of type {frame.kind:#06x}")


def _lacp(cable: Cable, frame: Ethernet) -> str:
    if not cable.lacp:
        raise Beyond("link aggregation (LACP) on a card that is in no bond of mode 802.3ad")
    size, rest = _LACP_SIZE, frame.payload[_LACP_SIZE:]
    if (
        frame.destination != _LACP_GROUP
        or len(frame.payload) < size
        or frame.payload[0] != _LACP_SUBTYPE
        or rest
    ):
        raise Beyond("a slow protocol's frame that is no LACP")
    return "LACP"


def _arp(link: Link, frame: Ethernet) -> str:
    message = parse_arp(frame)
    if message.sender_mac != frame.source:
        raise Beyond(f"ARP in the name of {message.sender_mac}")
    probes = message.asks and message.sender == _NOBODY4 and link.is_own(message.target)
    if not probes and not link.is_own(message.sender):
        raise Beyond(f"ARP in the name of {message.sender}, which is not {link.name}'s address")
    if message.asks and not link.is_own(message.target) and not link.speaks_to(message.target):
        raise Beyond(f"asks for {message.target} (ARP), to which nothing may be sent")
    asked_by = message.target
    if not message.asks and asked_by != _NOBODY4 and not any(asked_by in network for network in link.wire):
        raise Beyond(f"answers {message.target} (ARP), which is not on {link.name}'s wire")
    if frame.to_many and frame.destination != _EVERYBODY:
        raise Beyond(f"ARP to the group {frame.destination}")
    return "ARP"


def _packet(link: Link, frame: Ethernet, packet: Packet) -> str:
    if packet.protocol == ICMPV6 and frame.kind == IPV6:
        return _message(link, frame, packet)
    segment = parse_segment(packet)
    if packet.alert:
        raise Beyond("options for every hop")
    if not link.is_own(packet.source):
        raise Beyond(f"sent in the name of {packet.source}, which is not {link.name}'s address")
    if frame.to_many:
        raise Beyond(f"to {packet.destination} by a frame for many ({frame.destination})")
    return _ssh(link, packet, segment) or _clock(link, packet, segment) or _flow(link, packet, segment)


def _ssh(link: Link, packet: Packet, segment: Segment) -> str | None:
    """Segments from SSH's port to a management network, none of which opens a connection."""
    inside = any(packet.destination in network for network in link.ssh)
    if packet.protocol == TCP and segment.source == link.ssh_port and inside and not segment.opens:
        return "SSH"
    return None


def _clock(link: Link, packet: Packet, segment: Segment) -> str | None:
    asked = packet.destination in link.clocks and segment.destination == NTP
    return "time (NTP)" if packet.protocol == UDP and asked else None


def _flow(link: Link, packet: Packet, segment: Segment) -> str:
    protocol = "tcp" if packet.protocol == TCP else "udp"
    for flow in link.flows:
        if flow.protocol != protocol or packet.destination not in flow.addresses:
            continue
        if flow.goes("out") and _in_ports(flow, segment.destination):
            return f"flow {flow.name}"
        answers = not segment.opens if protocol == "tcp" else flow.answers
        if flow.goes("in") and answers and _in_ports(flow, segment.source):
            return f"flow {flow.name}"
    opens = " that opens a connection" if packet.protocol == TCP and segment.opens else ""
    raise Beyond(
        f"{protocol.upper()}{opens} to {_with_port(packet.destination, segment.destination)}: "
        f"neither SSH's answer to a management network nor a flow of {link.name}"
    )


def _in_ports(flow: Flow, port: int) -> bool:
    return any(low <= port <= high for low, high in flow.ports)


def _with_port(address: Address, port: int) -> str:
    return f"{address} port {port}"


def _message(link: Link, frame: Ethernet, packet: Packet) -> str:
    message = parse_message(packet)
    source, destination = packet.source, packet.destination
    unnamed = source == _NOBODY6
    if not (unnamed or link.is_own(source)):
        raise Beyond(f"sent in the name of {source}, which is not {link.name}'s address")
    if isinstance(destination, IPv6Address) and destination.is_multicast:
        if frame.destination != group_mac(destination):
            raise Beyond(f"for the group {destination} by a frame for {frame.destination}")
    elif frame.to_many:
        raise Beyond(f"for {destination} by a frame for many ({frame.destination})")
    if isinstance(message, Report):
        return _report(link, message)
    if message.link not in {None, frame.source}:
        raise Beyond(f"names {message.link} as its own address on the wire")
    if message.asks:
        return _solicitation(link, message, destination, unnamed=unnamed)
    if unnamed or not link.is_own(message.target):
        raise Beyond(f"says it is {message.target}, which is not {link.name}'s address")
    if destination.is_multicast and destination != ALL_NODES:
        raise Beyond(f"tells the group {destination} about an address")
    return "neighbour discovery"


def _solicitation(link: Link, message: Neighbour, destination: Address, *, unnamed: bool) -> str:
    if destination not in {solicited_group(message.target), message.target}:
        raise Beyond(f"asks {destination} for {message.target}")
    # From no address: is anybody else there who has mine (RFC 4862, section 5.4.2)?
    if unnamed and (not link.is_own(message.target) or message.link is not None):
        raise Beyond(f"asks from no address for {message.target}")
    if not unnamed and not link.is_own(message.target) and not link.speaks_to(message.target):
        raise Beyond(f"asks for {message.target}, to which nothing may be sent")
    return "neighbour discovery"


def _report(link: Link, report: Report) -> str:
    mine = {solicited_group(each) for each in link.own if isinstance(each, IPv6Address)}
    others = [group for group in report.groups if group not in mine]
    if others and not (link.link_local and _solicited(others)):
        raise Beyond(f"reports groups that no address of {link.name} is in: {', '.join(map(str, others))}")
    return "group reports"


def _solicited(groups: Sequence[IPv6Address]) -> bool:
    return all(group == solicited_group(group) for group in groups)
