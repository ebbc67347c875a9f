"""The frames that are thrown at the export's card from the low side: one or more of each kind.

From what answers by itself (ARP, echo, SYN) over what a program may wait for to what no host has any
business with.  The kinds are those of the anchors' measurements and nine more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scapy.compat import raw
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.igmp import IGMP
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from tests.node.wire import LOW_MAC, NODE, OWN_PORT, PORT, RECEIVER

if TYPE_CHECKING:
    from scapy.packet import Packet

_ALL = "ff:ff:ff:ff:ff:ff"


def kinds(card: str) -> dict[str, list[Packet]]:
    """One or more frames of each kind, to a card with this MAC address."""
    below = Ether(src=LOW_MAC, dst=card)
    to_node = below / IP(src=RECEIVER, dst=NODE)
    return {
        "ARP request": [Ether(src=LOW_MAC, dst=_ALL) / ARP(psrc=RECEIVER, pdst=NODE, hwsrc=LOW_MAC)],
        "gratuitous ARP": [
            Ether(src=LOW_MAC, dst=_ALL) / ARP(op=2, psrc=RECEIVER, pdst=RECEIVER, hwsrc=LOW_MAC)
        ],
        "UDP to a port that is listened on": [to_node / UDP(sport=9, dport=PORT) / b"hello"],
        "UDP to a closed port": [to_node / UDP(sport=9, dport=7) / b"hello"],
        "reply to the exporter's own datagram": [to_node / UDP(sport=PORT, dport=OWN_PORT) / b"reply"],
        "ICMP error about it": [
            to_node / ICMP(type=3, code=3) / IP(src=NODE, dst=RECEIVER) / UDP(sport=OWN_PORT, dport=PORT)
        ],
        "TCP SYN": [to_node / TCP(sport=9, dport=PORT, flags="S")],
        "ICMP echo": [to_node / ICMP() / b"ping"],
        "IGMP query": [
            Ether(src=LOW_MAC, dst="01:00:5e:00:00:01")
            / IP(src=RECEIVER, dst="224.0.0.1", ttl=1)
            / IGMP(type=0x11)
        ],
        "IPv6 neighbour solicitation": [
            Ether(src=LOW_MAC, dst="33:33:ff:00:00:0e")
            / IPv6(src="fe80::f", dst="ff02::1:ff00:e")
            / ICMPv6ND_NS(tgt="fe80::ff:fe00:e")
        ],
        "IPv6 router advertisement": [
            Ether(src=LOW_MAC, dst="33:33:00:00:00:01") / IPv6(src="fe80::f", dst="ff02::1") / ICMPv6ND_RA()
        ],
        "IPv6 echo": [below / IPv6(src="fe80::f", dst="fe80::ff:fe00:e") / ICMPv6EchoRequest()],
        "LLDP": [
            Ether(src=LOW_MAC, dst="01:80:c2:00:00:0e", type=0x88CC) / bytes.fromhex("020704020000000f")
        ],
        "VLAN tag": [below / Dot1Q(vlan=120) / IP(src=RECEIVER, dst=NODE) / UDP(dport=PORT) / b"tagged"],
        "broadcast DHCP": [
            Ether(src=LOW_MAC, dst=_ALL)
            / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 - what DHCP is sent from
            / UDP(sport=67, dport=68)
            / BOOTP(op=2)
            / DHCP(options=[("message-type", "offer"), "end"])
        ],
        "fragments": [
            below / each
            for each in fragment(IP(src=RECEIVER, dst=NODE) / UDP(dport=PORT) / bytes(3000), fragsize=1400)
        ],
        "an EtherType of its own": [Ether(src=LOW_MAC, dst=card, type=0x88B5) / b"experiment"],
        "PAUSE": [Ether(src=LOW_MAC, dst="01:80:c2:00:00:01", type=0x8808) / bytes.fromhex("0001ffff")],
    }


def thrown(card: str) -> list[bytes]:
    """All of them, as long as Ethernet wants frames to be."""
    return [raw(each).ljust(60, b"\0") for frames in kinds(card).values() for each in frames]


def is_exported(frame: bytes) -> bool:
    """Whether a frame that came down is what the node is there for, and no answer."""
    found = Ether(frame)
    return UDP in found and (found.dst, found[IP].dst, found[UDP].dport) == (LOW_MAC, RECEIVER, PORT)
