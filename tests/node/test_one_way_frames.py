"""Frames of every kind are thrown at the export's card from the low side: none gets in, none is answered.

The walls are put up by the program itself.  Each wall is then taken away in turn, and the other one holds
alone; with neither, the same frames reach the IP stack and the program and get answers: good frames.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from scapy.compat import raw
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.igmp import IGMP
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, ICMPv6ND_RA, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from appliance.export.line.settings import DEVICE, NAMESPACE
from tests.node.at_station import APPLIANCE
from tests.node.wire import LOW_MAC, NODE, NODE_MAC, OWN_PORT, PORT, RECEIVER, Wire, laid_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.node

BELOW = Ether(src=LOW_MAC, dst=NODE_MAC)
TO_NODE = BELOW / IP(src=RECEIVER, dst=NODE)
ALL = "ff:ff:ff:ff:ff:ff"

#: One or more frames of each kind.
FRAMES = {
    "ARP request": [Ether(src=LOW_MAC, dst=ALL) / ARP(psrc=RECEIVER, pdst=NODE, hwsrc=LOW_MAC)],
    "gratuitous ARP": [
        Ether(src=LOW_MAC, dst=ALL) / ARP(op=2, psrc=RECEIVER, pdst=RECEIVER, hwsrc=LOW_MAC)
    ],
    "UDP to a port that is listened on": [TO_NODE / UDP(sport=9, dport=PORT) / b"hello"],
    "UDP to a closed port": [TO_NODE / UDP(sport=9, dport=7) / b"hello"],
    "reply to the exporter's own datagram": [TO_NODE / UDP(sport=PORT, dport=OWN_PORT) / b"reply"],
    "ICMP error about it": [
        TO_NODE / ICMP(type=3, code=3) / IP(src=NODE, dst=RECEIVER) / UDP(sport=OWN_PORT, dport=PORT)
    ],
    "TCP SYN": [TO_NODE / TCP(sport=9, dport=PORT, flags="S")],
    "ICMP echo": [TO_NODE / ICMP() / b"ping"],
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
    "IPv6 echo": [BELOW / IPv6(src="fe80::f", dst="fe80::ff:fe00:e") / ICMPv6EchoRequest()],
    "LLDP": [Ether(src=LOW_MAC, dst="01:80:c2:00:00:0e", type=0x88CC) / bytes.fromhex("020704020000000f")],
    "VLAN tag": [BELOW / Dot1Q(vlan=120) / IP(src=RECEIVER, dst=NODE) / UDP(dport=PORT) / b"tagged"],
    "broadcast DHCP": [
        Ether(src=LOW_MAC, dst=ALL)
        / IP(src="0.0.0.0", dst="255.255.255.255")  # noqa: S104 - what DHCP is sent from
        / UDP(sport=67, dport=68)
        / BOOTP(op=2)
        / DHCP(options=[("message-type", "offer"), "end"])
    ],
    "fragments": [
        BELOW / each
        for each in fragment(IP(src=RECEIVER, dst=NODE) / UDP(dport=PORT) / bytes(3000), fragsize=1400)
    ],
    "an EtherType of its own": [Ether(src=LOW_MAC, dst=NODE_MAC, type=0x88B5) / b"experiment"],
    "PAUSE": [Ether(src=LOW_MAC, dst="01:80:c2:00:00:01", type=0x8808) / bytes.fromhex("0001ffff")],
}
INJECTED = [raw(each).ljust(60, b"\0") for frames in FRAMES.values() for each in frames]

UFW_LIKE = """
table inet filter {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
  }
}
"""


@pytest.fixture
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    with laid_wire(tmp_path_factory.mktemp("wire")) as laid:
        laid.line("up")
        yield laid


def exported(frame: bytes) -> bool:
    """Whether a frame is what the node is there for, and no answer."""
    found = Ether(frame)
    return (
        (found.dst, found[IP].dst, found[UDP].dport) == (LOW_MAC, RECEIVER, PORT) if UDP in found else False
    )


def test_there_are_nine_kinds_and_more() -> None:
    assert len(FRAMES) >= 9
    assert len(INJECTED) > len(FRAMES)


def test_nothing_comes_in_and_nothing_is_answered(wire: Wire) -> None:
    """Counted where it cannot be overlooked: at the card, by each wall, in both IP stacks, below."""
    heard = wire.inject(INJECTED)
    assert (heard.received, heard.ip, heard.program) == (len(INJECTED), 0, 0)
    assert [each for each in heard.answers if not exported(each)] == []
    # What the listening program sent out came before the capture began, or is all there is.
    assert len(heard.answers) <= 1
    shown = wire.line("show")
    assert (shown["faults"], shown["xdp"]["mode"]) == ([], "native")
    assert shown["received_since_up"] == len(INJECTED)


def test_without_the_rules_xdp_holds_alone(wire: Wire) -> None:
    wire.inside("nft", "flush", "ruleset")
    heard = wire.inject(INJECTED)
    assert (heard.received, heard.dropped, heard.ip, heard.program) == (len(INJECTED), 0, 0, 0)
    assert [each for each in heard.answers if not exported(each)] == []


def test_without_xdp_the_rules_hold_alone(wire: Wire) -> None:
    """The rules see every frame, whatever it is: their counter is the number that was injected."""
    wire.inside("ip", "link", "set", "dev", DEVICE, "xdp", "off")
    heard = wire.inject(INJECTED)
    assert (heard.dropped, heard.ip, heard.program) == (len(INJECTED), 0, 0)
    assert [each for each in heard.answers if not exported(each)] == []


def test_xdp_behind_the_driver_holds_as_well(wire: Wire) -> None:
    """A driver that runs no programs: the kernel drops right behind it, before taps and rules."""
    wire.inside("nft", "flush", "ruleset")
    wire.inside("ip", "link", "set", "dev", DEVICE, "xdp", "off")
    wire.inside(
        sys.executable,
        "-c",
        f"from appliance.export.line import xdp; xdp.NATIVE = 1 << 5; xdp.attach('{DEVICE}')",
    )
    assert wire.line("show", check=False)["xdp"]["mode"] == "generic"
    heard = wire.inject(INJECTED)
    assert (heard.ip, heard.program) == (0, 0)
    assert [each for each in heard.answers if not exported(each)] == []


def test_the_same_frames_get_in_and_are_answered_where_there_is_no_wall(wire: Wire) -> None:
    """What the tests above are worth: without walls these frames arrive, in the program too."""
    tear_down_walls(wire)
    heard = wire.inject(INJECTED)
    assert heard.ip > 5
    assert heard.program >= 3  # two sockets of UDP, one of ICMP
    kinds = {Ether(each).lastlayer().__class__.__name__ for each in heard.answers if not exported(each)}
    assert len(kinds) >= 2, "ARP, SYN-ACK, echo reply: somebody answers"


def test_the_established_rule_of_a_usual_firewall_lets_replies_in(wire: Wire) -> None:
    """Ufw's before.rules accept ESTABLISHED: so whoever hears the exporter can speak to it."""
    tear_down_walls(wire)
    wire.inside("nft", "-f", "-", text=UFW_LIKE)
    reply = [raw(each) for each in FRAMES["reply to the exporter's own datagram"]]
    assert wire.inject(reply).program == 1
    assert wire.inject([raw(each) for each in FRAMES["UDP to a port that is listened on"]]).program == 0


def test_ours_keeps_that_reply_out(wire: Wire) -> None:
    reply = [raw(each) for each in FRAMES["reply to the exporter's own datagram"]]
    heard = wire.inject(reply)
    assert (heard.received, heard.ip, heard.program) == (1, 0, 0)


def tear_down_walls(wire: Wire) -> None:
    wire.inside("nft", "flush", "ruleset")
    wire.inside("ip", "link", "set", "dev", DEVICE, "xdp", "off")
    wire.inside("ip", "link", "set", "dev", DEVICE, "arp", "on")
    paths = [f"/proc/sys/net/ipv4/conf/{which}/arp_ignore" for which in ("all", DEVICE)]
    wire.inside("sh", "-c", "; ".join(f"echo 0 > {path}" for path in paths))
    wire.inside("sh", "-c", "echo 0 > /proc/sys/net/ipv4/icmp_echo_ignore_all")


SEND = f"""
import json, socket
said = {{}}
for name, address, port in (
    ("receiver", "{RECEIVER}", {PORT}), ("port", "{RECEIVER}", 53), ("other", "192.0.2.9", {PORT})
):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(b"out", (address, port))
            said[name] = "sent"
        except OSError as fault:
            said[name] = fault.strerror
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as out:
    out.settimeout(0.2)
    try:
        out.connect(("{RECEIVER}", {PORT}))
        said["tcp"] = "connected"
    except OSError as fault:
        said["tcp"] = str(fault)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
    try:
        out.sendto(bytes(4000), ("{RECEIVER}", {PORT}))
        said["fragments"] = "sent"
    except OSError as fault:
        said["fragments"] = fault.strerror
print(json.dumps(said))
"""


def test_one_kind_of_datagram_leaves_and_nothing_else(wire: Wire) -> None:
    said = json.loads(wire.inside("python3", "-c", SEND))
    assert said["receiver"] == "sent"
    assert said["other"] == "Network is unreachable"
    assert said["tcp"] != "connected"
    out = wire.line("show")["counted"]["netdev out"]
    assert out[0] == 1, "the one to the receiver's port"
    assert out[1] >= 3, "another port, a SYN and a fragment were kept back"
    (link,) = json.loads(wire.inside("ip", "-j", "-s", "link", "show", "dev", DEVICE))
    assert link["stats64"]["tx"]["packets"] == 1


def test_the_card_comes_back_as_it_was_and_its_link_is_off(wire: Wire) -> None:
    assert wire.line("down") == {"was_up": True}
    (link,) = json.loads(wire.node("ip", "-j", "link", "show", "dev", "node0").stdout)
    assert not {"UP", "NOARP"} & set(link["flags"])
    assert "xdp" not in link
    assert wire.node("ls", "/run/netns").stdout.split() == ["low"]
    assert wire.line("down") == {"was_up": False}


def test_putting_it_up_again_begins_anew(wire: Wire) -> None:
    """A unit that is restarted finds its own leftovers."""
    wire.inside("nft", "flush", "ruleset")
    assert "no chain of nftables drops what comes in" in wire.line("show", check=False)["faults"][0]
    wire.line("up")
    assert wire.line("show")["faults"] == []


#: The same program with another verdict: XDP_PASS.
PASS_ALL = (
    f"{sys.executable} -c 'from appliance.export.line import xdp; xdp._XDP_DROP = 2; "
    f'xdp.attach("{DEVICE}")\''
)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("nft insert rule netdev appliance_export in accept", "no chain of nftables drops"),
        ("nft add rule netdev appliance_export out accept", "not those that were loaded"),
        (f"ip link set dev {DEVICE} xdp off", "no XDP program"),
        (f"ip link set dev {DEVICE} arp on", "speaks ARP"),
        (PASS_ALL, "another XDP program, appliance_drop, is at"),
        (f"ip address add 192.0.2.77/24 dev {DEVICE}", "addresses: "),
        (f"ip route add default via {RECEIVER} dev {DEVICE} onlink", "routes: "),
        (
            f"ip neighbour replace {RECEIVER} lladdr 02:00:00:00:00:aa dev {DEVICE} nud permanent",
            "neighbours: ",
        ),
        (f"echo 0 > /proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6", "disable_ipv6 is 0, not 1"),
    ],
)
def test_every_wall_that_is_touched_is_named(wire: Wire, damage: str, fault: str) -> None:
    wire.inside("sh", "-c", damage)
    done = wire.node(APPLIANCE, "export", "line", "show", "--line", str(wire.file), check=False)
    assert done.returncode == 5
    assert fault in done.stdout


def test_a_namespace_that_is_gone_is_no_line(wire: Wire) -> None:
    wire.node("ip", "netns", "delete", NAMESPACE)
    done = wire.node(APPLIANCE, "export", "line", "show", "--line", str(wire.file), check=False)
    assert (done.returncode, done.stdout) == (5, "")
