"""The segments of a lab and the network interfaces on them: numbers in, names and addresses out.  Pure.

Every lab has a management segment.  Virtual machines have two more interfaces, as a real node has: one
towards the log receiver, one towards those who ask the model.  With segment index X::

    management   10.77.X.0/24   fd77:X::/64   bridge alab-X
    export       10.78.X.0/24   fd78:X::/64   bridge alab-Xe
    data         10.79.X.0/24   fd79:X::/64   bridge alab-Xd

A node with a bond has a second card, ``data2``, on the data segment, and the VLAN 120 above both.

IPv6 addresses repeat the decimal digits of the IPv4 ones, so that people recognise them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

MANAGEMENT, EXPORT, DATA = "management", "export", "data"
#: The second card on the data segment.
SECOND = "data2"
#: What a bond's network carries, in bytes, and the VLAN on it.
LARGE_MTU, VLAN = 9000, 120

# purpose -> second octet of IPv4 addresses, end of interfaces' names, first octet of the bridge's MAC
_PURPOSES = {MANAGEMENT: (77, "", "02"), EXPORT: (78, "e", "06"), DATA: (79, "d", "0a")}
_OPERATOR = 1
_FOREIGN = 200


@dataclass(frozen=True)
class Segment:
    """One network segment: a bridge on the operator's side, and what hangs on it.

    Args:
        purpose: ``management``, ``export`` or ``data``.
        index: X of the address plan.
        token: the lab's ten hexadecimal digits.
    """

    purpose: str
    index: int
    token: str

    @property
    def bridge(self) -> str:
        return f"alab-{self.index}{_PURPOSES[self.purpose][1]}"

    @property
    def bridge_mac(self) -> str:
        """Given to the bridge when it is made, and looked at before it is deleted."""
        octets = [self.token[at : at + 2] for at in range(0, 10, 2)]
        return ":".join([_PURPOSES[self.purpose][2], *octets])

    @property
    def operator(self) -> tuple[str, str]:
        return host_addresses(self.purpose, self.index, _OPERATOR)

    @property
    def foreign(self) -> tuple[str, str]:
        """The operator's address outside the management networks; in use on the management segment only."""
        return host_addresses(self.purpose, self.index, _FOREIGN)


@dataclass(frozen=True)
class Nic:
    """One network interface of a node, and its place on a segment.

    Args:
        purpose: ``management``, ``export``, ``data`` or ``data2``.
        index: X of the address plan.
        host: the last part of its addresses.
        mtu: bytes that its cable carries at most.
    """

    purpose: str
    index: int
    host: int
    mtu: int = 1500

    @property
    def segment(self) -> str:
        """The purpose of the segment that it is on."""
        return DATA if self.purpose == SECOND else self.purpose

    @property
    def addresses(self) -> tuple[str, ...]:
        """IPv4 and IPv6; a second card has none."""
        return () if self.purpose == SECOND else host_addresses(self.purpose, self.index, self.host)

    @property
    def mac(self) -> str:
        """Locally administered; the last four octets are the IPv4 address, so it is unique as that is."""
        number = 0x0B if self.purpose == SECOND else 0x0A
        return f"02:00:{number:02x}:{_PURPOSES[self.segment][0]:02x}:{self.index:02x}:{self.host:02x}"

    @property
    def link(self) -> str:
        """The operator's end of the cable; at most 15 characters, as the kernel wants."""
        number = "2" if self.purpose == SECOND else ""
        return f"alab-{self.index}-{self.host}{_PURPOSES[self.segment][1]}{number}"

    @property
    def bridge(self) -> str:
        """The bridge the operator's end is plugged into."""
        return f"alab-{self.index}{_PURPOSES[self.segment][1]}"


def purposes(*, machine: bool) -> tuple[str, ...]:
    """What the interfaces of a node are for, in their order."""
    return (MANAGEMENT, EXPORT, DATA) if machine else (MANAGEMENT,)


def host_addresses(purpose: str, index: int, host: int) -> tuple[str, str]:
    """IPv4 and IPv6 address of a host on a segment."""
    octet = _PURPOSES[purpose][0]
    return f"10.{octet}.{index}.{host}", f"fd{octet}:{index}::{host}"


def segment_networks(index: int, purpose: str = MANAGEMENT) -> tuple[IPv4Network, IPv6Network]:
    """The IPv4 and IPv6 network of a segment."""
    octet = _PURPOSES[purpose][0]
    return IPv4Network(f"10.{octet}.{index}.0/24"), IPv6Network(f"fd{octet}:{index}::/64")
