"""Frames that a declared flow allows, each with what it is allowed as; and what frames are built of."""

from __future__ import annotations

from ipaddress import IPv4Address

from scapy.compat import raw
from scapy.contrib.lacp import LACP, SlowProtocol
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6MLDMultAddrRec,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.unit.frames.site import (
    DATA,
    EXPORT,
    MGMT,
    OPERATOR_MAC,
    STORE,
)

ALL, NOBODY = "ff:ff:ff:ff:ff:ff", str(IPv4Address(0))


def ether(source: str = MGMT, destination: str = OPERATOR_MAC) -> Packet:
    return Ether(src=source, dst=destination)


def arp(target: str, sender: str = "10.20.0.11", **more: object) -> Packet:
    return ether(destination=ALL) / ARP(op=1, hwsrc=MGMT, psrc=sender, pdst=target, **more)


GROUP11, GROUP11_MAC = "ff02::1:ff00:11", "33:33:ff:00:00:11"


def solicit(source: str, target: str, destination: str, mac: str, *options: Packet) -> Packet:
    frame = ether(destination=mac) / IPv6(src=source, dst=destination, hlim=255) / ICMPv6ND_NS(tgt=target)
    for option in options:
        frame /= option
    return frame


def report(*groups: str, source: str = "::", hops: int = 1, **record: object) -> Packet:
    records = [ICMPv6MLDMultAddrRec(rtype=4, dst=each, **record) for each in groups]
    message = ICMPv6MLReport2(records_number=len(records), records=records)
    hop = IPv6ExtHdrHopByHop(options=[RouterAlert()])
    return (
        ether(destination="33:33:00:00:00:16") / IPv6(src=source, dst="ff02::16", hlim=hops) / hop / message
    )


SSH4 = IP(src="10.20.0.11", dst="10.20.0.1") / TCP(sport=2022, dport=40000, flags="A") / Raw(b"secret")
SSH6 = IPv6(src="fd20::11", dst="fd20::1") / TCP(sport=2022, dport=40000, flags="PA") / Raw(b"x")
NCCL = IP(src="10.30.0.11", dst="10.30.0.12") / TCP(sport=41000, dport=50001, flags="S")
SYN_ACK = IP(src="10.30.0.11", dst="10.30.0.12") / TCP(sport=50001, dport=41000, flags="SA")

ALLOWED = {
    "SSH answers": ("mgmt", "SSH", ether() / SSH4),
    "SSH accepts": (
        "mgmt",
        "SSH",
        ether() / IP(src="10.20.0.11", dst="10.20.0.2") / TCP(sport=2022, flags="SA"),
    ),
    "SSH refuses": (
        "mgmt",
        "SSH",
        ether() / IP(src="10.20.0.11", dst="10.20.0.2") / TCP(sport=2022, flags="RA"),
    ),
    "SSH over IPv6": ("mgmt", "SSH", ether() / SSH6),
    "SSH by a listed route": (
        "mgmt",
        "SSH",
        ether() / IP(src="10.20.0.11", dst="10.99.0.7") / TCP(sport=2022, flags="A"),
    ),
    "time": (
        "mgmt",
        "time (NTP)",
        ether() / IP(src="10.20.0.11", dst="10.20.0.5") / UDP(sport=40000, dport=123),
    ),
    "ARP for the operator": ("mgmt", "ARP", arp("10.20.0.1")),
    "ARP for a router": ("mgmt", "ARP", arp("10.20.0.30")),
    "ARP for a clock": ("mgmt", "ARP", arp("10.20.0.5")),
    "ARP probe": ("mgmt", "ARP", arp("10.20.0.11", sender=NOBODY)),
    "ARP announcement": ("mgmt", "ARP", arp("10.20.0.11")),
    "ARP reply": ("mgmt", "ARP", ether() / ARP(op=2, hwsrc=MGMT, psrc="10.20.0.11", pdst="10.20.0.200")),
    "ARP reply to a probe": (
        "mgmt",
        "ARP",
        ether() / ARP(op=2, hwsrc=MGMT, psrc="10.20.0.11", pdst=NOBODY),
    ),
    "ARP filled up": ("mgmt", "ARP", arp("10.20.0.1") / Raw(bytes(18))),
    "duplicate address detection": (
        "mgmt",
        "neighbour discovery",
        solicit("::", "fd20::11", GROUP11, GROUP11_MAC, Raw(bytes.fromhex("0e01") + b"nonce!")),
    ),
    "solicitation": (
        "mgmt",
        "neighbour discovery",
        solicit(
            "fd20::11", "fd20::1", "ff02::1:ff00:1", "33:33:ff:00:00:01", ICMPv6NDOptSrcLLAddr(lladdr=MGMT)
        ),
    ),
    "solicitation of one": (
        "mgmt",
        "neighbour discovery",
        solicit("fd20::11", "fd20::1", "fd20::1", OPERATOR_MAC),
    ),
    "advertisement": (
        "mgmt",
        "neighbour discovery",
        ether()
        / IPv6(src="fd20::11", dst="fd20::200", hlim=255)
        / ICMPv6ND_NA(tgt="fd20::11")
        / ICMPv6NDOptDstLLAddr(lladdr=MGMT),
    ),
    "advertisement to all": (
        "mgmt",
        "neighbour discovery",
        ether(destination="33:33:00:00:00:01")
        / IPv6(src="fd20::11", dst="ff02::1", hlim=255)
        / ICMPv6ND_NA(tgt="fd20::11"),
    ),
    "group report": ("mgmt", "group reports", report(GROUP11)),
    "group report of an address made by itself": (
        "export",
        "group reports",
        Ether(src=EXPORT) / raw(report("ff02::1:ff00:4"))[14:],
    ),
    "a flow begins": ("data0", "flow nccl", ether(DATA) / NCCL),
    "a flow begins on the other card": ("data1", "flow nccl", ether(DATA) / NCCL),
    "a flow answers": ("data0", "flow nccl", ether(DATA) / SYN_ACK),
    "a datagram is answered": (
        "data0",
        "flow asks",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / UDP(sport=4791, dport=9),
    ),
    "a flow on a VLAN": (
        "data0",
        "flow disk",
        ether(DATA)
        / Dot1Q(vlan=120, prio=5)
        / IP(src="10.50.0.11", dst="10.50.0.2")
        / TCP(dport=2049, flags="S"),
    ),
    "logs": (
        "export",
        "flow logs",
        ether(EXPORT) / IP(src="10.60.0.9", dst="10.60.0.10") / UDP(dport=5140),
    ),
    "LACP": ("data1", "LACP", ether(STORE, "01:80:c2:00:00:02") / SlowProtocol() / LACP()),
}
# scapy leaves the type of a frame that carries raw bytes open.
ALLOWED["group report of an address made by itself"][2].type = 0x86DD
ALLOWED["group report of an address made by itself"][2].dst = "33:33:00:00:00:16"
