"""Say of any frame whatever can be said of it, for people who look for where it came from.  Pure.

Unlike ``packet`` this is content with parts: a frame that nobody understands has addresses all the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from appliance.frames.packet import ARP, ICMPV6, IPV4, IPV6, PTP, SLOW, TAGGED, TCP, UDP

_TYPES: Final = {
    ARP: "ARP",
    IPV4: "IPv4",
    IPV6: "IPv6",
    PTP: "PTP",
    SLOW: "LACP or another slow protocol",
    0x8035: "RARP",
    0x88CC: "LLDP",
}
_PROTOCOLS: Final = {1: "ICMP", 2: "IGMP", TCP: "TCP", UDP: "UDP", ICMPV6: "ICMPv6"}


@dataclass(frozen=True)
class Description:
    """A frame's own words; None where there are none.  ``kind``: the type as a number."""

    source_mac: str
    destination_mac: str
    vlan: int | None = None
    kind: int | None = None
    source: str | None = None
    destination: str | None = None
    protocol: str | None = None
    source_port: int | None = None
    destination_port: int | None = None

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "source_mac": self.source_mac,
            "destination_mac": self.destination_mac,
            "vlan": self.vlan,
            "ethertype": None if self.kind is None else f"{self.kind:#06x}",
            "source": self.source,
            "destination": self.destination,
            "protocol": self.protocol,
            "source_port": self.source_port,
            "destination_port": self.destination_port,
        }

    def __str__(self) -> str:
        what = "" if self.vlan is None else f"VLAN {self.vlan} "
        if self.kind is not None:
            what += f"{_TYPES.get(self.kind, 'type')} ({self.kind:#06x})"
        if self.protocol:
            what += f" {self.protocol}"
        if self.source and self.destination:
            what += (
                f" {_at(self.source, self.source_port)} > {_at(self.destination, self.destination_port)}"
            )
        return f"{self.source_mac} > {self.destination_mac} {what}".strip()


def _at(address: str, port: int | None) -> str:
    return address if port is None else f"{address} port {port}"


def describe(data: bytes) -> Description:
    """What can be said of a frame."""
    macs = data[6:12].hex(":"), data[:6].hex(":")
    try:
        (kind,) = struct.unpack_from("!H", data, 12)
        vlan, at = None, 14
        if kind == TAGGED:
            tag, kind = struct.unpack_from("!HH", data, 14)
            vlan, at = tag & 0x0FFF, 18
    except struct.error:
        return Description(*macs)
    try:
        return Description(*macs, vlan, kind, **_carried(kind, data[at:]))
    except (struct.error, ValueError, IndexError):
        return Description(*macs, vlan, kind)


def _carried(kind: int, data: bytes) -> dict[str, Any]:
    if kind == ARP:
        return {"source": str(IPv4Address(data[14:18])), "destination": str(IPv4Address(data[24:28]))}
    if kind == IPV4:
        ends = str(IPv4Address(data[12:16])), str(IPv4Address(data[16:20]))
        begins = not struct.unpack_from("!H", data, 6)[0] & 0x1FFF
        return _named(*ends, data[9], data[(data[0] & 0x0F) * 4 :] if begins else b"")
    if kind == IPV6:
        ends = str(IPv6Address(data[8:24])), str(IPv6Address(data[24:40]))
        protocol, rest = data[6], data[40:]
        if protocol == 0:  # options for every hop
            protocol, rest = rest[0], rest[(rest[1] + 1) * 8 :]
        return _named(*ends, protocol, rest)
    return {}


def _named(source: str, destination: str, protocol: int, rest: bytes) -> dict[str, Any]:
    name = _PROTOCOLS.get(protocol, f"protocol {protocol}")
    values: dict[str, Any] = {"source": source, "destination": destination, "protocol": name}
    if protocol in {TCP, UDP} and len(rest) >= 4:  # noqa: PLR2004 - two ports of two bytes
        values["source_port"], values["destination_port"] = struct.unpack_from("!HH", rest)
    elif protocol == ICMPV6 and rest:
        values["protocol"] = f"{name} type {rest[0]}"
    return values
