"""The probe against real sockets: rules of a closed node, a server on it, and what is asked of both."""

from __future__ import annotations

import ctypes
import dataclasses
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.node.probe import Attempt, OutboundProbe
from appliance.node.probe_outbound import probe_outbound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.inventory import Inventory, NodeEntry


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


def by_aim(probe: OutboundProbe, target: str) -> dict[str, list[Attempt]]:
    found: dict[str, list[Attempt]] = {}
    for attempt in probe.attempts:
        if attempt.target == target:
            found.setdefault(f"{attempt.protocol}-{attempt.family}", []).append(attempt)
    return found


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
