"""What a lab consists of: its names and addresses, all derived from a few remembered values.  Pure.

A lab is one management segment, a bridge on the operator's side, with one or more nodes; virtual
machines have more segments (``segments``).  Nothing on them routes, translates or forwards.  With segment
index X::

    10.77.X.0/24    fd77:X::/64      the segment
    10.77.X.0/29    fd77:X::/124     management networks: the operator, and no node
    10.77.X.1       fd77:X::1        the operator
    10.77.X.200     fd77:X::200      the operator's foreign address, outside the management networks
    10.77.X.11 …    fd77:X::11 …     the nodes
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, ip_network
from typing import TYPE_CHECKING

from appliance.errors import LabFailed, Usage
from appliance.lab.segments import (
    LARGE_MTU,
    MANAGEMENT,
    SECOND,
    Nic,
    Segment,
    host_addresses,
    purposes,
    segment_networks,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from ipaddress import IPv6Network
    from pathlib import Path

    Network = IPv4Network | IPv6Network

DEFAULT_NAME = "practice"
MAX_NODES = 64
MOST_DRIVES = 8
_FIRST_NODE = 11
SEGMENTS = range(1, 255)
_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NODE_NAME = re.compile(r"(.*)-[0-9]{2}")


@dataclass(frozen=True)
class Node:
    """One practice node: its name and its place on the segments.

    Args:
        name: LAB-01, LAB-02 …
        segment: X of the address plan.
        host: the last part of its addresses.
        machine: whether it is a virtual machine, with an interface on every segment.
        bond: whether it has two on the data segment, with cables for large frames.
        drives: simulated drives that it has.
    """

    name: str
    segment: int
    host: int
    machine: bool = False
    bond: bool = False
    drives: int = 0

    @property
    def nics(self) -> tuple[Nic, ...]:
        """Its network interfaces; the first is the one for management."""
        nics = [Nic(purpose, self.segment, self.host) for purpose in purposes(machine=self.machine)]
        if self.bond:
            last = nics.pop()
            nics += [replace(last, mtu=LARGE_MTU), replace(last, mtu=LARGE_MTU, purpose=SECOND)]
        return tuple(nics)

    @property
    def address4(self) -> str:
        return host_addresses(MANAGEMENT, self.segment, self.host)[0]

    @property
    def address6(self) -> str:
        return host_addresses(MANAGEMENT, self.segment, self.host)[1]

    @property
    def mac(self) -> str:
        return self.nics[0].mac

    @property
    def link(self) -> str:
        """The operator's end of the management cable."""
        return self.nics[0].link


@dataclass(frozen=True)
class Lab:
    """Everything that must be remembered of a lab; all else follows from it.

    Args:
        name: the operator's name for it.
        segment: X of the address plan.
        count: number of nodes.
        token: five random octets, hexadecimal; marks what belongs to this lab and no other.
        netns: device and inode of the network namespace that is the operator's side.
        root: what the nodes are made from, in the cache, which they read and never write: the root file
            system of containers, the folder of an image (``image``) of virtual machines.
        machine: whether the nodes are virtual machines; otherwise they are containers.
        capture: whether every frame of every interface of a virtual machine is kept.
        restored: whether virtual machines begin as copies of one that has booted already.
        bond: whether virtual machines have two cards on the data segment, to be one bond with a VLAN.
        tpm: whether virtual machines came with a TPM.
        drives: simulated drives that each virtual machine has.
    """

    name: str
    segment: int
    count: int
    token: str
    netns: tuple[int, int]
    root: Path
    machine: bool = False
    capture: bool = False
    restored: bool = False
    bond: bool = False
    tpm: bool = False
    drives: int = 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its segments; the first is the one for management."""
        return tuple(Segment(name, self.segment, self.token) for name in purposes(machine=self.machine))

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(
            Node(
                f"{self.name}-{number:02d}",
                self.segment,
                _FIRST_NODE + number - 1,
                machine=self.machine,
                bond=self.bond,
                drives=self.drives,
            )
            for number in range(1, self.count + 1)
        )

    @property
    def bridge(self) -> str:
        """The bridge of the management segment."""
        return self.segments[0].bridge

    @property
    def bridge_mac(self) -> str:
        return self.segments[0].bridge_mac

    @property
    def cgroup(self) -> str:
        return f"appliance-lab-{self.name}-{self.token}"

    @property
    def management(self) -> tuple[str, str]:
        return f"10.77.{self.segment}.0/29", f"fd77:{self.segment}::/124"

    @property
    def operator(self) -> tuple[str, str]:
        return self.segments[0].operator

    @property
    def foreign(self) -> tuple[str, str]:
        return self.segments[0].foreign


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


def check_drives(drives: int) -> int:
    """The number of drives of each node, if a machine can have so many.

    Raises:
        Usage: it cannot.
    """
    if not 0 <= drives <= MOST_DRIVES:
        raise Usage(
            "a machine cannot have this many drives", found=str(drives), wanted=f"0 to {MOST_DRIVES}"
        )
    return drives


def choose_segment(used: Iterable[str], taken: Collection[int], *, machine: bool = False) -> int:
    """The lowest segment index that overlaps nothing.

    Args:
        used: networks with an address or a route on the operator's side (CIDR; no default routes).
        taken: indices of other labs.
        machine: whether the lab is one of virtual machines, with more segments.

    Raises:
        LabFailed: every segment overlaps something.
    """
    networks = [ip_network(text, strict=False) for text in used]
    for segment in SEGMENTS:
        if segment in taken:
            continue
        if not any(_overlaps(segment, purpose, networks) for purpose in purposes(machine=machine)):
            return segment
    raise LabFailed(
        "no free addresses for a lab",
        found="every 10.77.X.0/24 or fd77:X::/64 overlaps an address, a route or another lab",
        wanted="one free pair on the operator's side",
        hint="give the lab a network namespace of its own: "
        "ip netns add rehearsal && ip netns exec rehearsal appliance lab up",
    )


def _overlaps(segment: int, purpose: str, networks: Iterable[Network]) -> bool:
    network4, network6 = segment_networks(segment, purpose)
    return any(
        network4.overlaps(other) if isinstance(other, IPv4Network) else network6.overlaps(other)
        for other in networks
    )
