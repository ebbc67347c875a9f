"""Frames that nothing allows: those that are allowed with one thing changed, and others, each with why."""

from __future__ import annotations

from scapy.compat import raw
from scapy.contrib.lacp import LACP, SlowProtocol
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Raw

from tests.unit.frames.frames_allowed import (
    ALL,
    GROUP11,
    GROUP11_MAC,
    NCCL,
    NOBODY,
    SSH4,
    SSH6,
    arp,
    ether,
    report,
    solicit,
)
from tests.unit.frames.site import (
    DATA,
    EXPORT,
    MGMT,
    OPERATOR_MAC,
    SWITCH_MAC,
)

BEYOND = {
    "another source": ("mgmt", "not mgmt's address", ether(SWITCH_MAC) / SSH4),
    "a connection from SSH's port": (
        "mgmt",
        "opens a connection",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1") / TCP(sport=2022, dport=22, flags="S"),
    ),
    "another port": (
        "mgmt",
        "neither SSH's answer",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1") / TCP(sport=22, flags="A"),
    ),
    "SSH to who is no operator": (
        "mgmt",
        "neither SSH's answer",
        ether() / IP(src="10.20.0.11", dst="10.20.0.200") / TCP(sport=2022, flags="RA"),
    ),
    "SSH from another address": (
        "mgmt",
        "in the name of",
        ether() / IP(src="10.20.0.12", dst="10.20.0.1") / TCP(sport=2022, flags="A"),
    ),
    "SSH on another card": (
        "export",
        "neither SSH's answer",
        ether(EXPORT) / IP(src="10.60.0.9", dst="10.60.0.10") / TCP(sport=2022, flags="A"),
    ),
    "SSH to everybody": ("mgmt", "a frame for many", ether(destination=ALL) / SSH4),
    "SSH over UDP": ("mgmt", "UDP", ether() / IP(src="10.20.0.11", dst="10.20.0.1") / UDP(sport=2022)),
    "a name is asked for": (
        "mgmt",
        "port 53",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1") / UDP(sport=5353, dport=53),
    ),
    "multicast DNS": (
        "mgmt",
        "224.0.0.251",
        ether(destination="01:00:5e:00:00:fb") / IP(src="10.20.0.11", dst="224.0.0.251") / UDP(dport=5353),
    ),
    "a DHCP discovery": (
        "mgmt",
        "in the name of 0.0.0.0",
        ether(destination=ALL) / IP(src=NOBODY, dst="255.255.255.255") / UDP(sport=68, dport=67),
    ),
    "time of another server": (
        "mgmt",
        "port 123",
        ether() / IP(src="10.20.0.11", dst="10.20.0.6") / UDP(dport=123),
    ),
    "time over TCP": (
        "mgmt",
        "TCP",
        ether() / IP(src="10.20.0.11", dst="10.20.0.5") / TCP(dport=123, flags="S"),
    ),
    "a ping": ("mgmt", "protocol 1 of IP", ether() / IP(src="10.20.0.11", dst="10.20.0.1") / ICMP()),
    "a ping of IPv6": (
        "mgmt",
        "type 128 (echo request)",
        ether() / IPv6(src="fd20::11", dst="fd20::1") / ICMPv6EchoRequest(),
    ),
    "a router is asked for": (
        "mgmt",
        "router solicitation",
        ether(destination="33:33:00:00:00:02") / IPv6(src="::", dst="ff02::2", hlim=255) / ICMPv6ND_RS(),
    ),
    "ARP for a stranger": ("mgmt", "to which nothing may be sent", arp("10.20.0.200")),
    "ARP for who is beyond the wire": ("mgmt", "to which nothing may be sent", arp("10.99.0.7")),
    "ARP in another's name": ("mgmt", "in the name of 10.20.0.1,", arp("10.20.0.1", sender="10.20.0.1")),
    "ARP by another card": (
        "mgmt",
        f"in the name of {DATA}",
        ether(destination=ALL) / ARP(op=1, hwsrc=DATA, psrc="10.20.0.11", pdst="10.20.0.1"),
    ),
    "ARP probe for another": ("mgmt", "in the name of 0.0.0.0", arp("10.20.0.12", sender=NOBODY)),
    "ARP reply beyond the wire": (
        "mgmt",
        "not on mgmt's wire",
        ether() / ARP(op=2, hwsrc=MGMT, psrc="10.20.0.11", pdst="192.0.2.1"),
    ),
    "ARP to a group": (
        "mgmt",
        "to the group",
        ether(destination="01:00:5e:00:00:01") / ARP(op=1, hwsrc=MGMT, psrc="10.20.0.11", pdst="10.20.0.1"),
    ),
    "ARP with something behind": ("mgmt", "after the end", arp("10.20.0.1") / Raw(b"\0" * 17 + b"!")),
    "ARP with much behind": ("mgmt", "after the end", arp("10.20.0.1") / Raw(bytes(19))),
    "ARP of another operation": ("mgmt", "no request or reply", ether() / ARP(op=3, hwsrc=MGMT)),
    "solicitation for a stranger": (
        "mgmt",
        "to which nothing may be sent",
        solicit("fd20::11", "fd20::200", "ff02::1:ff00:200", "33:33:ff:00:02:00"),
    ),
    "solicitation over a router": (
        "mgmt",
        "hop limit",
        ether() / IPv6(src="fd20::11", dst="fd20::1", hlim=64) / ICMPv6ND_NS(tgt="fd20::1"),
    ),
    "solicitation of another group": (
        "mgmt",
        "asks ff02::1:ff00:2",
        solicit("fd20::11", "fd20::1", "ff02::1:ff00:2", "33:33:ff:00:00:02"),
    ),
    "solicitation by another frame": (
        "mgmt",
        "by a frame for",
        solicit("fd20::11", "fd20::1", "ff02::1:ff00:1", "33:33:00:00:00:01"),
    ),
    "solicitation with another's address": (
        "mgmt",
        f"names {DATA}",
        solicit("fd20::11", "fd20::1", "fd20::1", OPERATOR_MAC, ICMPv6NDOptSrcLLAddr(lladdr=DATA)),
    ),
    "solicitation with more behind": (
        "mgmt",
        "option",
        solicit("fd20::11", "fd20::1", "fd20::1", OPERATOR_MAC, Raw(b"\x19\x01secret")),
    ),
    "detection of another's address": (
        "mgmt",
        "asks from no address",
        solicit("::", "fd20::12", "ff02::1:ff00:12", "33:33:ff:00:00:12"),
    ),
    "an address of its own making": (
        "mgmt",
        "asks from no address",
        solicit("::", "fe80::11", GROUP11, GROUP11_MAC),
    ),
    "advertisement of another's address": (
        "mgmt",
        "which is not mgmt's address",
        ether() / IPv6(src="fd20::11", dst="fd20::1", hlim=255) / ICMPv6ND_NA(tgt="fd20::1"),
    ),
    "report of another group": ("mgmt", "ff02::fb", report("ff02::fb")),
    "report of two groups, one another": ("mgmt", "ff02::1:3", report(GROUP11, "ff02::1:3")),
    "report of another group where addresses make themselves": (
        "export",
        "ff02::fb",
        Ether(src=EXPORT, dst="33:33:00:00:00:16", type=0x86DD) / raw(report("ff02::fb"))[14:],
    ),
    "report over routers": ("mgmt", "hop limit", report(GROUP11, hops=2)),
    "report with sources": ("mgmt", "with sources", report(GROUP11, sources=["fd20::1"], sources_number=1)),
    "report in another's name": ("mgmt", "in the name of fd20::1,", report(GROUP11, source="fd20::1")),
    "options for every hop": (
        "mgmt",
        "options for every hop",
        ether()
        / IPv6(src="fd20::11", dst="fd20::1")
        / IPv6ExtHdrHopByHop(options=[RouterAlert()])
        / SSH6[TCP],
    ),
    "options for the other end": (
        "mgmt",
        "protocol 60",
        ether() / IPv6(src="fd20::11", dst="fd20::1") / IPv6ExtHdrDestOpt() / SSH6[TCP],
    ),
    "a fragment of IPv6": (
        "mgmt",
        "protocol 44",
        ether() / IPv6(src="fd20::11", dst="fd20::1") / IPv6ExtHdrFragment(m=1) / SSH6[TCP],
    ),
    "a fragment": (
        "mgmt",
        "a fragment",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1", flags="MF") / TCP(sport=2022, flags="A"),
    ),
    "a later fragment": (
        "mgmt",
        "a fragment",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1", frag=8, proto=6) / raw(SSH4[TCP]),
    ),
    "IPv4 options": (
        "mgmt",
        "IPv4 options",
        ether()
        / IP(src="10.20.0.11", dst="10.20.0.1", options=[IPOption_Router_Alert()])
        / TCP(sport=2022, flags="A"),
    ),
    "something behind the packet": (
        "mgmt",
        "after the end",
        Ether(src=MGMT, dst=OPERATOR_MAC, type=0x0800) / Raw(raw(SSH4) + b"0" * 40),
    ),
    "something behind the datagram": (
        "mgmt",
        "UDP whose length",
        ether() / IP(src="10.20.0.11", dst="10.20.0.5") / UDP(dport=123, len=8) / Raw(b"secret"),
    ),
    "a length that is not there": (
        "mgmt",
        "says it has",
        ether() / IP(src="10.20.0.11", dst="10.20.0.1", len=400) / TCP(sport=2022, flags="A"),
    ),
    "another version within": (
        "mgmt",
        "version 6",
        Ether(src=MGMT, dst=OPERATOR_MAC, type=0x0800) / raw(SSH6),
    ),
    "a VLAN that is not declared": ("mgmt", "VLAN 7 is not declared", ether() / Dot1Q(vlan=7) / SSH4),
    "a tag for no VLAN": ("mgmt", "VLAN 0 is not declared", ether() / Dot1Q(vlan=0) / SSH4),
    "tagged twice": ("data0", "tagged twice", ether(DATA) / Dot1Q(vlan=120) / Dot1Q(vlan=120) / NCCL),
    "a flow on the wrong VLAN": ("data0", "in the name of", ether(DATA) / Dot1Q(vlan=120) / NCCL),
    "a flow's port from elsewhere": (
        "data0",
        "nor a flow of data",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.13") / TCP(dport=50001, flags="S"),
    ),
    "beside a flow's ports": (
        "data0",
        "nor a flow of data",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / TCP(dport=51000, flags="S"),
    ),
    "a flow by the other protocol": (
        "data0",
        "nor a flow of data",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / UDP(dport=50001),
    ),
    "a connection from a flow's port": (
        "data0",
        "opens a connection",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / TCP(sport=50001, dport=1, flags="S"),
    ),
    "a datagram begins where only peers do": (
        "data0",
        "nor a flow of data",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / UDP(sport=9, dport=4791),
    ),
    "an answer where there are none": (
        "data0",
        "nor a flow of data",
        ether(DATA) / IP(src="10.30.0.11", dst="10.30.0.12") / UDP(sport=4792, dport=9),
    ),
    "LACP where there is no bond": (
        "mgmt",
        "in no bond",
        ether(destination="01:80:c2:00:00:02") / SlowProtocol() / LACP(),
    ),
    "LACP of another kind": (
        "data0",
        "no LACP",
        ether(DATA, "01:80:c2:00:00:02") / SlowProtocol(subtype=2) / LACP(),
    ),
    "LACP with more behind": (
        "data0",
        "no LACP",
        ether(DATA, "01:80:c2:00:00:02") / SlowProtocol() / LACP() / Raw(b"!"),
    ),
    "LLDP": ("mgmt", "0x88cc", Ether(src=MGMT, dst="01:80:c2:00:00:0e", type=0x88CC) / Raw(bytes(50))),
    "RARP": ("mgmt", "0x8035", Ether(src=MGMT, dst=ALL, type=0x8035) / Raw(bytes(46))),
    "PTP that is not asked for": (
        "mgmt",
        "0x88f7",
        Ether(src=MGMT, dst="01:1b:19:00:00:00", type=0x88F7) / Raw(bytes(44)),
    ),
    "spanning tree": (
        "mgmt",
        "a length",
        Ether(src=MGMT, dst="01:80:c2:00:00:00", type=38) / Raw(bytes(38)),
    ),
    "a card that is not declared": ("gpu7", "no card gpu7", ether() / SSH4),
}
