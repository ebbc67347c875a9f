"""What a lab consists of: its names and addresses, all derived from a few remembered values.  Pure.

A lab is one network segment: a bridge on the operator's side, and one or more nodes.  Nothing on it
routes, translates or forwards.  With segment index X::

    10.77.X.0/24    fd77:X::/64      the segment
    10.77.X.0/29    fd77:X::/124     management networks: the operator, and no node
    10.77.X.1       fd77:X::1        the operator
    10.77.X.200     fd77:X::200      the operator's foreign address, outside the management networks
    10.77.X.11 …    fd77:X::11 …     the nodes

IPv6 addresses repeat the decimal digits of the IPv4 ones, so that people recognise them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING

from appliance.errors import LabFailed, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    Network = IPv4Network | IPv6Network

DEFAULT_NAME = "practice"
MAX_NODES = 64
_FIRST_NODE = 11
_FOREIGN = 200
SEGMENTS = range(1, 255)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NODE_NAME = re.compile(r"(.*)-[0-9]{2}")


@dataclass(frozen=True)
class Node:
    """One practice node: its name and its place on the segment."""

    name: str
    segment: int
    host: int

    @property
    def address4(self) -> str:
        return f"10.77.{self.segment}.{self.host}"

    @property
    def address6(self) -> str:
        return f"fd77:{self.segment}::{self.host}"

    @property
    def mac(self) -> str:
        """Locally administered; the last four octets are the IPv4 address, so it is unique as that is."""
        return f"02:00:0a:4d:{self.segment:02x}:{self.host:02x}"

    @property
    def link(self) -> str:
        """The operator's end of the cable; at most 15 characters, as the kernel wants."""
        return f"alab-{self.segment}-{self.host}"


@dataclass(frozen=True)
class Lab:
    """Everything that must be remembered of a lab; all else follows from it.

    Args:
        name: the operator's name for it.
        segment: X of the address plan.
        count: number of nodes.
        token: five random octets, hexadecimal; marks what belongs to this lab and no other.
        netns: device and inode of the network namespace that is the operator's side.
        root: the cached root file system, which the nodes read and never write.
    """

    name: str
    segment: int
    count: int
    token: str
    netns: tuple[int, int]
    root: Path

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(f"{self.name}-{number:02d}", self.segment, _FIRST_NODE + number - 1)
            for number in range(1, self.count + 1)
        )

    @property
    def bridge(self) -> str:
        return f"alab-{self.segment}"

    @property
    def bridge_mac(self) -> str:
        """Given to the bridge when it is made, and looked at before it is deleted."""
        octets = [self.token[at : at + 2] for at in range(0, 10, 2)]
        return ":".join(["02", *octets])

    @property
    def cgroup(self) -> str:
        return f"appliance-lab-{self.name}-{self.token}"

    @property
    def management(self) -> tuple[str, str]:
        return f"10.77.{self.segment}.0/29", f"fd77:{self.segment}::/124"

    @property
    def operator(self) -> tuple[str, str]:
        return f"10.77.{self.segment}.1", f"fd77:{self.segment}::1"

    @property
    def foreign(self) -> tuple[str, str]:
        return f"10.77.{self.segment}.{_FOREIGN}", f"fd77:{self.segment}::{_FOREIGN}"


def check_name(name: str) -> str:
    """The name, if it can be a lab's.

    Raises:
        Usage: it is too long, has other characters, or looks like the name of a lab's node.
    """
    if not _NAME.fullmatch(name) or _NODE_NAME.fullmatch(name):
        raise Usage(
            "this name cannot be a lab's",
            found=repr(name),
            wanted="1 to 32 of a-z, 0-9 and -, first a letter, last no -; not ending like a node (-01)",
            hint="choose another name",
        )
    return name


def lab_of(name: str) -> str:
    """The name of the lab that a node of this name would be in; a lab's own name as it is."""
    found = _NODE_NAME.fullmatch(name)
    return found[1] if found else name


def check_count(count: int) -> int:
    """The number of nodes, if one segment can hold them.

    Raises:
        Usage: it cannot.
    """
    if not 1 <= count <= MAX_NODES:
        raise Usage("a lab cannot have this many nodes", found=str(count), wanted=f"1 to {MAX_NODES}")
    return count


def segment_networks(segment: int) -> tuple[IPv4Network, IPv6Network]:
    """The IPv4 and IPv6 network of a segment."""
    return IPv4Network(f"10.77.{segment}.0/24"), IPv6Network(f"fd77:{segment}::/64")


def choose_segment(used: Iterable[str], taken: Collection[int]) -> int:
    """The lowest segment index that overlaps nothing.

    Args:
        used: networks with an address or a route on the operator's side (CIDR; no default routes).
        taken: indices of other labs.

    Raises:
        LabFailed: every segment overlaps something.
    """
    networks = [ip_network(text, strict=False) for text in used]
    for segment in SEGMENTS:
        if segment not in taken and not _overlaps(segment, networks):
            return segment
    raise LabFailed(
        "no free addresses for a lab",
        found="every 10.77.X.0/24 or fd77:X::/64 overlaps an address, a route or another lab",
        wanted="one free pair on the operator's side",
        hint="give the lab a network namespace of its own: "
        "ip netns add rehearsal && ip netns exec rehearsal appliance lab up",
    )


def _overlaps(segment: int, networks: Iterable[Network]) -> bool:
    network4, network6 = segment_networks(segment)
    return any(
        network4.overlaps(other) if isinstance(other, IPv4Network) else network6.overlaps(other)
        for other in networks
    )
