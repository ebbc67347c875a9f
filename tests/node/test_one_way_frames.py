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
from scapy.layers.l2 import Ether

from appliance.export.line.settings import DEVICE, NAMESPACE
from tests.node.at_station import APPLIANCE
from tests.node.thrown import is_exported, kinds, thrown
from tests.node.wire import NODE_MAC, PORT, RECEIVER, Wire, laid_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.node

FRAMES = kinds(NODE_MAC)
INJECTED = thrown(NODE_MAC)

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


def test_there_are_nine_kinds_and_more() -> None:
    assert len(FRAMES) >= 9
    assert len(INJECTED) > len(FRAMES)


def test_nothing_comes_in_and_nothing_is_answered(wire: Wire) -> None:
    """Counted where it cannot be overlooked: at the card, by each wall, in both IP stacks, below."""
    heard = wire.inject(INJECTED)
    assert (heard.received, heard.ip, heard.program) == (len(INJECTED), 0, 0)
    assert [each for each in heard.answers if not is_exported(each)] == []
    # What the listening program sent out came before the capture began, or is all there is.
    assert len(heard.answers) <= 1
    shown = wire.line("show")
    assert (shown["faults"], shown["xdp"]["mode"]) == ([], "native")
    assert shown["received_since_up"] == len(INJECTED)


def test_without_the_rules_xdp_holds_alone(wire: Wire) -> None:
    wire.inside("nft", "flush", "ruleset")
    heard = wire.inject(INJECTED)
    assert (heard.received, heard.dropped, heard.ip, heard.program) == (len(INJECTED), 0, 0, 0)
    assert [each for each in heard.answers if not is_exported(each)] == []


def test_without_xdp_the_rules_hold_alone(wire: Wire) -> None:
    """The rules see every frame, whatever it is: their counter is the number that was injected."""
    wire.inside("ip", "link", "set", "dev", DEVICE, "xdp", "off")
    heard = wire.inject(INJECTED)
    assert (heard.dropped, heard.ip, heard.program) == (len(INJECTED), 0, 0)
    assert [each for each in heard.answers if not is_exported(each)] == []


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
    assert [each for each in heard.answers if not is_exported(each)] == []


def test_the_same_frames_get_in_and_are_answered_where_there_is_no_wall(wire: Wire) -> None:
    """What the tests above are worth: without walls these frames arrive, in the program too."""
    tear_down_walls(wire)
    heard = wire.inject(INJECTED)
    assert heard.ip > 5
    assert heard.program >= 3  # two sockets of UDP, one of ICMP
    kinds = {Ether(each).lastlayer().__class__.__name__ for each in heard.answers if not is_exported(each)}
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
