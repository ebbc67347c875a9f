"""The probe against real sockets: a station and a node, each a network namespace, a cable between them."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import Interface, Inventory, Management, Match, NodeEntry
from appliance.errors import ApplianceError, NodeUnreachable
from appliance.node import probe_attempts
from appliance.node.probe import Attempt, OutboundProbe, load_probe, run_script, store_probe
from appliance.node.probe_inbound import Door, knock
from appliance.node.probe_listener import Listener
from appliance.node.probe_outbound import GREETING_SECONDS, _knock_at_services, probe_outbound
from tests.unit.frames.site import INVENTORY as SITE
from tests.unit.frames.site import NODE

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSED = """
table inet filter {
  chain in { type filter hook input priority 0; policy drop;
    iif lo accept; ct state established accept; icmpv6 type { 135, 136 } accept
    ip saddr 10.213.0.0/28 tcp dport %d accept
    ip6 saddr fd13::/124 tcp dport %d accept
  }
  chain out { type filter hook output priority 0; policy drop;
    oif lo accept; ct state established accept; icmpv6 type { 135, 136 } accept
    %s
  }
}
"""

SERVER = """
import socket
servers = [socket.create_server(("", 0)), None]
port = servers[0].getsockname()[1]
servers[1] = socket.create_server(("::", port), family=socket.AF_INET6)
print(port, flush=True)
import threading
def serve(server):
    while True:
        link, _ = server.accept()
        link.sendall(b"SSH-2.0-counterpart\\r\\n")
        link.close()
for server in servers:
    threading.Thread(target=serve, args=(server,)).start()
"""


def sh(command: str, **options: object) -> None:
    subprocess.run(command, shell=True, check=True, **options)  # type: ignore[call-overload]  # noqa: S602


@contextmanager
def inside(space: str) -> Iterator[None]:
    """Move this thread, and whatever it starts, into a network namespace for a while."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{space}") as there:  # noqa: PTH123
        if libc.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            libc.setns(home.fileno(), 0)


@dataclasses.dataclass
class Room:
    """A station and a node, alone with each other; ``run`` makes it a connection to the node."""

    station: str
    node: str
    inventory: Inventory

    @property
    def entry(self) -> NodeEntry:
        return self.inventory.nodes[0]

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.node}", "sh", "-c", command],
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def close(self, hole: str = "") -> None:
        """Put the node's firewall up; ``hole`` is one more rule for what may leave."""
        rules = CLOSED % (self.entry.port, self.entry.port, hole)
        done = self.run("nft -f -", stdin=rules.encode())
        assert done.returncode == 0, done.stderr

    def probe(self) -> OutboundProbe:
        with inside(self.station):
            return probe_outbound(self, self.inventory, self.entry, seconds=0.6)


@pytest.fixture
def room() -> Iterator[Room]:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    station, node = f"apq-st-{os.getpid()}", f"apq-nd-{os.getpid()}"
    server = None
    try:
        sh(f"ip netns add {station} && ip netns add {node}")
        sh(f"ip -n {station} link add cable type veth peer name eth0 netns {node}")
        for space, link, addresses in (
            (station, "cable", ("10.213.0.1/24", "10.213.0.200/24", "fd13::1/64", "fd13::2000/64")),
            (node, "eth0", ("10.213.0.11/24", "fd13::11/64")),
        ):
            sh(f"ip -n {space} link set lo up && ip -n {space} link set {link} up")
            for address in addresses:
                sh(f"ip -n {space} address add {address} dev {link} {'nodad' if ':' in address else ''}")
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{node}", sys.executable, "-c", SERVER],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert server.stdout
        port = int(server.stdout.readline())
        addresses = tuple(map(ip_interface, ("10.213.0.11/24", "fd13::11/64")))
        entry = NodeEntry(
            "n1",
            "ssh",
            ip_address("10.213.0.11"),
            port,
            (Interface("mgmt", Match(name="eth0"), addresses),),
        )
        management = Management(
            networks=(ip_network("10.213.0.0/28"), ip_network("fd13::/124")),
            operator=(ip_address("10.213.0.1"), ip_address("fd13::1")),
            foreign=(ip_address("10.213.0.200"), ip_address("fd13::2000")),
        )
        yield Room(station, node, Inventory(Path("inventory.yml"), "test", management, None, (entry,)))
    finally:
        if server:
            server.kill()
            server.wait()
        for space in (station, node):
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


def by_aim(probe: OutboundProbe, target: str) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for attempt in probe.attempts:
        if attempt.target == target:
            found.setdefault(f"{attempt.protocol}-{attempt.family}", []).append(attempt)
    return found


def test_an_open_node_reaches_the_station_and_is_reached(room: Room) -> None:
    probe = room.probe()
    assert all(endpoint.alive for endpoint in probe.endpoints), probe.endpoints
    assert len(probe.endpoints) == 2 * 8
    listener = by_aim(probe, "listener")
    assert set(listener) == {"tcp-v4", "udp-v4", "icmp-v4", "tcp-v6", "udp-v6", "icmp-v6"}
    for attempts in listener.values():
        assert attempts[0].outcome == "reached"
        assert attempts[0].detail == "echo came back"
        assert attempts[0].arrived is True
    for name in ("tcp-v4", "tcp-v6"):  # a whole connection, and a SYN of our own making
        assert [each.detail for each in listener[name]] == ["echo came back", "answered"]
    for target in ("dns", "https", "quic", "ntp"):
        assert all(each.escaped for each in probe.attempts if each.target == target)
    own = [each for each in probe.inbound if each.target == "own"]
    assert len(own) == 4
    assert {each.outcome for each in own} == {"reached"}
    ssh = {each.who: each for each in probe.inbound if each.target == "ssh"}
    assert len(ssh) == 4
    assert {each.detail for each in ssh.values()} == {"SSH answers"}
    # nothing carries a packet beyond the wire, firewall or not
    assert not [str(each) for each in probe.attempts if each.target == "elsewhere" and each.escaped]
    assert [each for each in probe.attempts if each.target == "wire" and each.escaped]
    assert probe.names[0].addresses == ()


def test_a_closed_node_reaches_nothing_and_only_ssh_from_the_management_network_gets_in(room: Room) -> None:
    room.close()
    probe = room.probe()
    assert all(endpoint.alive for endpoint in probe.endpoints)
    tried = [each for each in probe.attempts if each.target != "own"]
    assert len(tried) > 30
    assert not [str(each) for each in tried if each.escaped]
    assert all(each.outcome == "reached" for each in probe.attempts if each.target == "own")
    doors = [each for each in probe.inbound if each.target in {"own", "port"}]
    assert len(doors) > 30
    assert not [str(each) for each in doors if each.outcome != "silent"]
    ssh = {each.who.split()[1]: each.outcome for each in probe.inbound if each.target == "ssh"}
    assert ssh == {
        "10.213.0.1": "reached",
        "fd13::1": "reached",
        "10.213.0.200": "silent",
        "fd13::2000": "silent",
    }


@pytest.mark.parametrize(
    ("hole", "escapes"),
    [
        ("udp dport 123 accept", {"udp-v4", "udp-v6"}),
        ("ip daddr 10.213.0.1 tcp dport 443 accept", {"tcp-v4"}),
        ("icmp type echo-request accept", {"icmp-v4"}),
        ("icmpv6 type echo-request accept", {"icmp-v6"}),
        ("ip daddr 224.0.0.0/4 accept", {"udp-v4"}),
        ("ip6 daddr ff02::/16 accept", {"udp-v6"}),
    ],
)
def test_one_hole_in_the_firewall_is_the_one_that_is_found(
    room: Room, hole: str, escapes: set[str]
) -> None:
    room.close(hole)
    probe = room.probe()
    found = {
        f"{each.protocol}-{each.family}" for each in probe.attempts if each.target != "own" and each.escaped
    }
    assert found == escapes


def test_a_packet_that_leaves_and_is_never_answered_counts_as_escaped(room: Room) -> None:
    """One way is enough to leak: the station's answers are thrown away on the node."""
    room.close("udp dport 53 accept")
    done = room.run("nft insert rule inet filter in udp sport 53 drop")
    assert done.returncode == 0
    leaks = [each for each in room.probe().attempts if each.target == "dns" and each.protocol == "udp"]
    assert len(leaks) == 2
    for leak in leaks:
        assert leak.outcome == "sent"
        assert leak.arrived is True
        assert leak.escaped


def test_a_connection_that_knocks_outside_and_is_never_answered_counts_as_escaped(room: Room) -> None:
    """The witness sees whole connections only; that a SYN left is told by the node's own kernel."""
    room.close("tcp dport 443 accept")
    assert room.run("nft insert rule inet filter in tcp sport 443 drop").returncode == 0
    leaks = [each for each in room.probe().attempts if each.target == "https" and each.escaped]
    assert [(each.family, each.outcome) for each in leaks] == [("v4", "sent"), ("v6", "sent")]


def test_a_datagram_that_gets_in_is_noticed_though_its_answer_stays_in(room: Room) -> None:
    room.close()
    assert room.run("nft insert rule inet filter in udp dport 20000-60000 accept").returncode == 0
    doors = {
        (each.protocol, each.address): each.arrived for each in room.probe().inbound if each.target == "own"
    }
    assert doors == {
        ("udp", "10.213.0.11"): True,
        ("udp", "fd13::11"): True,
        ("tcp", "10.213.0.11"): None,
        ("tcp", "fd13::11"): None,
    }


def test_a_route_alone_lets_nothing_out_while_the_firewall_stands(room: Room) -> None:
    room.close()
    assert room.run("ip route add default via 10.213.0.1").returncode == 0
    attempts = [each for each in room.probe().attempts if each.target == "elsewhere"]
    assert not [str(each) for each in attempts if each.escaped]
    assert {each.outcome for each in attempts if each.family == "v4"} == {"denied"}


def test_a_route_without_a_firewall_is_found(room: Room) -> None:
    assert room.run("ip route add default via 10.213.0.1").returncode == 0
    attempts = [
        each for each in room.probe().attempts if each.target == "elsewhere" and each.family == "v4"
    ]
    assert attempts
    assert all(each.escaped for each in attempts)


def test_a_dead_listener_is_said_to_be_dead(room: Room) -> None:
    """Without a witness that works, silence at the other end proves nothing."""
    filtered = "table inet f { chain c { type filter hook input priority 0; meta l4proto udp drop ; }; }"
    with inside(room.station):
        subprocess.run(["nft", "-f", "-"], input=filtered.encode(), check=True)
    probe = room.probe()
    assert {each.alive for each in probe.endpoints if each.protocol == "udp"} == {False}
    assert {each.alive for each in probe.endpoints if each.protocol == "tcp"} == {True}
    assert all(
        each.arrived is None for each in probe.attempts if each.protocol == "udp" and each.target == "ntp"
    )


def test_an_address_that_is_not_the_stations_own_has_no_listener() -> None:
    with Listener([ip_address("192.0.2.254")], "token") as listener:
        endpoints = listener.try_out()
    assert not any(endpoint.witnessed or endpoint.alive for endpoint in endpoints)
    assert all(endpoint.trouble for endpoint in endpoints)


def test_the_listener_notes_only_whole_tokens_of_its_own_run() -> None:
    with Listener([ip_address("127.0.0.1")], "run-a") as listener:
        port = next(each.port for each in listener.endpoints if each.protocol == "udp")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
            link.settimeout(2)
            for word in (b"run-b-1", b"run-a-1"):
                link.sendto(word, ("127.0.0.1", port))
                assert link.recv(100) == word
        assert listener.arrived("run-a-1")
        assert not listener.arrived("run-b-1")
        assert not listener.arrived("run-a")


def test_a_refused_door_is_closed_and_an_open_one_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        doors = [
            Door("port", "tcp", "127.0.0.1", "127.0.0.1", each.getsockname()[1]) for each in (server, taken)
        ]
        first, second = knock(doors, seconds=2)
    assert (first.outcome, second.outcome) == ("reached", "denied")


def test_no_route_is_told_by_the_kernel_and_not_by_how_quickly_it_came(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow node the same error takes longer than an answer from a quick network."""

    def slow(address: str, *_: object) -> tuple[str, str]:
        time.sleep(2 * probe_attempts.AT_ONCE)
        raise OSError(errno.ENETUNREACH, address)

    monkeypatch.setitem(probe_attempts.ATTEMPTS, "tcp", slow)
    target = {"target": "elsewhere", "protocol": "tcp", "port": 443}
    with inside(room.station):
        for address in ("198.51.100.1", "2001:db8::1"):
            found = probe_attempts.attempt({**target, "address": address}, "root", "token", 1)
            assert (found["outcome"], found["detail"]) == ("no-route", "ENETUNREACH")
        # The counterpart: where there is a route, it is somebody else who says so, and the packet was out.
        for address in ("10.213.0.99", "fd13::99"):
            found = probe_attempts.attempt({**target, "address": address}, "root", "token", 1)
            assert found["outcome"] == "silent"


def attempt(**changed: object) -> Attempt:
    values: dict[str, object] = {
        "target": "listener",
        "protocol": "tcp",
        "address": "10.0.0.1",
        "port": 9,
        "who": "root",
        "outcome": "denied",
        "detail": "EPERM",
        "milliseconds": 1,
        "arrived": False,
    }
    return Attempt(**(values | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "escaped"),
    [
        ({}, False),
        ({"arrived": None}, False),
        ({"arrived": True}, True),
        ({"outcome": "reached"}, True),
        ({"outcome": "sent"}, True),
        ({"outcome": "error"}, True),
        ({"outcome": "no-route", "arrived": None}, False),
        ({"outcome": "silent"}, False),
        ({"outcome": "silent", "arrived": None}, True),
    ],
)
def test_an_attempt_has_escaped_unless_it_is_proven_that_it_has_not(
    changed: dict[str, object], escaped: bool
) -> None:
    assert attempt(**changed).escaped is escaped


def test_a_stored_probe_comes_back_as_it_was(tmp_path: Path) -> None:
    probe = OutboundProbe(
        "2030-01-01T00:00:00Z", (), (attempt(),), (), (attempt(target="ssh"),), {"root": ""}
    )
    store_probe(probe, tmp_path / "before.json")
    assert load_probe(tmp_path / "before.json") == probe
    (tmp_path / "before.json").write_text('{"time": 1}')
    assert load_probe(tmp_path / "before.json") is None
    assert load_probe(tmp_path / "none.json") is None


class Answers:
    """A connection that answers everything the same way."""

    def __init__(self, returncode: int, stdout: bytes = b"", stderr: bytes = b"") -> None:
        self._answer = subprocess.CompletedProcess([], returncode, stdout, stderr)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        if timeout == 0:
            raise subprocess.TimeoutExpired(command, 0)
        return self._answer


@pytest.mark.parametrize(
    ("connection", "timeout", "error"),
    [
        (Answers(255, stderr=b"Connection refused"), 9, NodeUnreachable),
        (Answers(127, stderr=b"sh: python3: not found"), 9, ApplianceError),
        (Answers(0, stdout=b"not json"), 9, ApplianceError),
        (Answers(0, stdout=b"{}"), 0, NodeUnreachable),
    ],
)
def test_a_script_that_does_not_run_is_a_named_error(
    connection: Answers, timeout: float, error: type[ApplianceError]
) -> None:
    with pytest.raises(error) as raised:
        run_script(connection, "def main(request): ...", {}, timeout=timeout)
    assert type(raised.value) is error


def test_where_ssh_must_answer_a_busy_node_gets_the_time_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere silence is what is wanted, and is not waited for that long."""
    waited: dict[tuple[str, str], float] = {}

    def greeting(address: str, _port: int, source: str, *, seconds: float) -> Attempt:
        waited[source, address] = seconds
        return attempt(target="ssh")

    monkeypatch.setattr("appliance.node.probe_outbound.greeting", greeting)
    monkeypatch.setattr("appliance.node.probe_outbound.knock", lambda *_, **__: ())
    management = dataclasses.replace(SITE.management, foreign=(ip_address("10.20.0.200"),))
    site = dataclasses.replace(SITE, management=management)
    _knock_at_services(site, NODE, ["10.20.0.11", "10.30.0.11", "fd20::11"], (), 1.5)
    assert waited == {
        ("10.20.0.1", "10.20.0.11"): GREETING_SECONDS,
        ("fd20::1", "fd20::11"): GREETING_SECONDS,
        ("10.20.0.1", "10.30.0.11"): 1.5,
        ("10.20.0.200", "10.20.0.11"): 1.5,
        ("10.20.0.200", "10.30.0.11"): 1.5,
    }
