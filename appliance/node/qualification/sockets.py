"""Judges listening sockets: who can be talked to from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Flow

#: Listening TCP and bound UDP sockets with their programs (ss(8)).
LISTENING: Final = "ss -H -l -n -t -u -p"

_PROGRAM: Final = re.compile(r'\("(?P<name>[^"]*)",pid=(?P<pid>\d+)')


@dataclass(frozen=True)
class Socket:
    """A socket somebody can talk to.  ``pids`` are the programs that hold it."""

    protocol: str
    address: str
    port: int
    programs: tuple[str, ...]
    pids: frozenset[int]

    @property
    def loopback(self) -> bool:
        bare = self.address.partition("%")[0]
        return self.address.endswith("%lo") or (bare != "*" and ip_address(bare).is_loopback)

    def __str__(self) -> str:
        return f"{self.protocol} {self.address} port {self.port} ({', '.join(self.programs) or 'kernel'})"


def parse_sockets(text: str) -> list[Socket]:
    """``ss -H -l -n -t -u -p``: protocol, state, queues, local, peer, programs."""
    found = []
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 6:  # noqa: PLR2004 - the columns named above, programs may be absent
            continue
        address, _, port = fields[4].rpartition(":")
        programs = [match.groupdict() for match in _PROGRAM.finditer(fields[6] if len(fields) > 6 else "")]  # noqa: PLR2004
        found.append(
            Socket(
                protocol=fields[0],
                address=re.sub(r"[\[\]]", "", address),
                port=int(port) if port.isdigit() else 0,
                programs=tuple(sorted({each["name"] for each in programs})),
                pids=frozenset(int(each["pid"]) for each in programs),
            )
        )
    return found


def judge_listening(sockets: list[Socket], ssh_port: int, flows: Sequence[Flow] = ()) -> Finding:
    """Only SSH, and who serves a declared flow, listens where somebody outside could ask."""
    outside = [each for each in sockets if not each.loopback]
    ssh = [str(each) for each in outside if (each.protocol, each.port) == ("tcp", ssh_port)]
    served = [str(each) for each in outside if any(_serves(each, flow) for flow in flows)]
    wrong = [str(each) for each in outside if str(each) not in {*ssh, *served}]
    declared = ", and ports of flows" if flows else ""
    return Finding(
        not wrong and bool(ssh),
        lines(wrong or ssh + served, otherwise="nothing listens, not even SSH"),
        f"SSH on TCP port {ssh_port}{declared}, everything else on loopback",
    )


def _serves(socket: Socket, flow: Flow) -> bool:
    """Whether peers of a flow may talk to this socket."""
    if socket.protocol != flow.protocol:
        return False
    return flow.goes("in") and any(low <= socket.port <= high for low, high in flow.ports)


def judge_loopback_only(sockets: list[Socket], port: int, pids: frozenset[int]) -> Finding:
    """The service listens on its port on loopback and on nothing else."""
    own = [each for each in sockets if each.port == port or each.pids & pids]
    wrong = [str(each) for each in own if not each.loopback]
    served = any(each.loopback and each.port == port and each.protocol == "tcp" for each in own)
    return Finding(
        served and not wrong,
        lines(wrong or [str(each) for each in own], otherwise="the service listens nowhere"),
        f"TCP port {port} on loopback addresses only",
    )
