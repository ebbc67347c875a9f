"""A node with declared flows, a listed route, a packet size and a link-local address, tried live.

Bonds and VLANs need kernel modules that containers cannot load: what netplan makes of them is tested in
tests/unit/roles/test_netplan_accepts.py, and the first kernel that makes them is the virtual machines'.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.node.roles.damages import together

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.node

NETWORK, FIREWALL = "Have static addresses only, with no way out", "Deny everything but management SSH"
CONFIRMED = "Confirm the change over a fresh connection"

#: Waits for one message, says what came, and answers.
SERVE = """
import socket, sys
protocol, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
with socket.socket(family, kind) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.settimeout(3)
    server.bind((address, port))
    if protocol == "tcp":
        server.listen()
    print("ready", flush=True)
    try:
        if protocol == "tcp":
            server.accept()[0].sendall(b"back")
        else:
            server.sendto(b"back", server.recvfrom(9)[1])
        print("arrived", flush=True)
    except OSError as error:
        print(error, flush=True)
"""

ASK = """
import socket, sys
protocol, source, address, port = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
with socket.socket(family, kind) as client:
    client.settimeout(1)
    client.bind((source, 0))
    client.connect((address, port))
    client.send(b"here")
    sys.exit(client.recv(9) != b"back")
"""


class Site:
    """The node, what it is told, and a way to try what passes."""

    def __init__(self, lab: Any, site: Any) -> None:
        self.lab, self.site, self.node = lab, site, lab.node
        mgmt = site.node["interfaces"][0]
        mgmt |= {
            "mtu": 1400,
            "link_local": True,
            "routes": [{"to": "10.99.0.0/24", "via": lab.foreign[0]}],
        }
        known = {"interface": mgmt["name"], "peers": list(lab.foreign)}
        site.node["flows"] = [
            {
                "name": "nccl",
                "directions": ["in", "out"],
                "protocol": "tcp",
                **known,
                "ports": ["50000:50010"],
                "answers": True,
            },
            {
                "name": "logs",
                "directions": ["out"],
                "protocol": "udp",
                **known,
                "ports": ["5140"],
                "answers": False,
            },
        ]

    def apart(self, family: int) -> dict[str, str]:
        """Addresses by who has them."""
        own = (self.node.address4, self.node.address6)[family == 6]
        return {
            "node": own,
            "peer": self.lab.foreign[family == 6],
            "operator": self.lab.operator[family == 6],
        }

    def tried(self, protocol: str, source: str, target: str, port: int, family: int = 4) -> str:
        """``answered``, ``arrived`` (no answer came back) or ``nothing``."""
        addresses = self.apart(family)
        serve = self.on(target, SERVE, protocol, addresses[target], str(port))
        server = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        ask = self.on(source, ASK, protocol, addresses[source], addresses[target], str(port))
        client = subprocess.run(ask, capture_output=True, text=True, check=False)
        arrived = server.communicate()[0] == "arrived\n"
        assert arrived or client.returncode != 0
        return "answered" if client.returncode == 0 else "arrived" if arrived else "nothing"

    def on(self, who: str, program: str, *arguments: str) -> list[str]:
        if who == "node":
            enter = ["nsenter", "--target", str(self.node.leader), "--all", "--"]
            return [*enter, "python3", "-c", program, *arguments]
        command: list[str] = self.node.operator_side.command([sys.executable, "-c", program, *arguments])
        return command

    @property
    def device(self) -> str:
        links = json.loads(self.node.inside("ip -json address show").stdout)
        own = self.node.address4
        return str(next(link["ifname"] for link in links if own in str(link["addr_info"])))


@pytest.fixture(scope="module")
def applied(fresh_lab: Any, stage: Callable[[Any], None], new_site: Callable[[Any], Any]) -> Site:
    site = Site(fresh_lab, new_site(fresh_lab))
    stage(fresh_lab.node)
    done = site.site.play()
    assert done.failed == {}, done.log
    return site


def test_a_second_run_changes_nothing(applied: Site) -> None:
    again = applied.site.play()
    assert (again.failed, again.changed) == ({}, []), again.log


# protocol, who begins, whom with, port, family: what must come of it
WAYS = [
    (("tcp", "node", "peer", 50000, 4), "answered"),
    (("tcp", "node", "peer", 50010, 6), "answered"),
    (("tcp", "node", "peer", 50011, 4), "nothing"),
    (("tcp", "node", "operator", 50000, 4), "nothing"),
    (("tcp", "peer", "node", 50005, 4), "answered"),
    (("tcp", "peer", "node", 50005, 6), "answered"),
    (("tcp", "peer", "node", 49999, 4), "nothing"),
    (("tcp", "operator", "node", 50005, 4), "nothing"),
    (("udp", "node", "peer", 50000, 4), "nothing"),
    (("udp", "node", "peer", 5140, 4), "arrived"),
    (("udp", "node", "peer", 5140, 6), "arrived"),
    (("udp", "peer", "node", 5140, 4), "nothing"),
    (("udp", "node", "operator", 5140, 4), "nothing"),
]


@pytest.mark.parametrize(("way", "wanted"), WAYS)
def test_what_is_declared_works_and_nothing_else(applied: Site, way: Any, wanted: str) -> None:
    assert applied.tried(*way) == wanted


def test_packet_size_route_and_link_local_address_are_there(applied: Site) -> None:
    (link,) = json.loads(applied.node.inside(f"ip -json address show dev {applied.device}").stdout)
    assert link["mtu"] == 1400
    assert [row for row in link["addr_info"] if row["local"].startswith("fe80:")]
    routes = json.loads(applied.node.inside("ip -json -4 route show").stdout)
    listed = [route for route in routes if "gateway" in route]
    assert [(route["dst"], route["gateway"]) for route in listed] == [
        ("10.99.0.0/24", applied.lab.foreign[0]),
    ]


#: Ways in which rules of others come beside ufw's, or the link drifts, and the task that puts it right.
DRIFT = {
    "iptables -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8000": FIREWALL,
    "nft add table inet helpful; nft 'add chain inet helpful in { type filter hook input priority -9; }';"
    " nft add rule inet helpful in tcp dport 80 accept": FIREWALL,
    "iptables -N DOCKER; iptables -I FORWARD -j DOCKER; iptables -A DOCKER -j ACCEPT": FIREWALL,
    "rm /etc/systemd/system/ufw.service.d/10-appliance.conf": FIREWALL,
    "ip link set dev $DEVICE mtu 1500": NETWORK,
    "ip route del 10.99.0.0/24": NETWORK,
    "ip route add 10.98.0.0/24 via $PEER": NETWORK,
}


@pytest.mark.parametrize("damages", together(DRIFT), ids=" and ".join)
def test_what_drifted_is_put_right(applied: Site, damages: tuple[str, ...]) -> None:
    for damage in damages:
        applied.node.inside(f"DEVICE={applied.device} PEER={applied.lab.foreign[0]}; {damage}")
    repaired = applied.site.play(tags=("revert", "network_isolation", "firewall"))
    assert repaired.failed == {}, repaired.log
    assert repaired.changed == sorted({*(DRIFT[each] for each in damages), CONFIRMED}), repaired.log
    tables = applied.node.inside("nft list tables").stdout.splitlines()
    assert "table inet helpful" not in tables


def test_an_unconfirmed_change_of_size_routes_and_tables_is_undone(applied: Site) -> None:
    node = applied.node
    node.inside("nft add table inet before; nft add set inet before one '{ type ipv4_addr; }'")
    node.inside("appliance-revert arm --after 300")
    node.inside(
        f"ip link set dev {applied.device} mtu 1300; nft delete table inet before;"
        f" ip route add 10.98.0.0/24 via {applied.lab.foreign[0]}"
    )
    done = json.loads(node.inside("appliance-revert restore").stdout)
    assert done["fired"]["faults"] == []
    assert json.loads(node.inside(f"ip -json link show dev {applied.device}").stdout)[0]["mtu"] == 1400
    assert "10.98.0.0" not in node.inside("ip route").stdout
    assert "10.99.0.0" in node.inside("ip route").stdout
    assert "table inet before" in node.inside("nft list tables").stdout
    assert applied.site.play().failed == {}


def test_at_boot_the_rules_are_there_before_the_network(applied: Site) -> None:
    applied.node.reboot(power_cut=True)
    shown = "systemctl show --value --property"
    rules = int(applied.node.inside(f"{shown}=ActiveEnterTimestampMonotonic ufw.service").stdout)
    network = int(
        applied.node.inside(f"{shown}=ExecMainStartTimestampMonotonic systemd-networkd.service").stdout
    )
    assert 0 < rules < network
    assert applied.tried("tcp", "node", "peer", 50000) == "answered"
    assert applied.tried("tcp", "node", "peer", 50011) == "nothing"
    again = applied.site.play()
    assert (again.failed, again.changed) == ({}, []), again.log
