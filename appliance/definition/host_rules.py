"""What a site's source of time must say about its nodes: without a gateway few are heard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.definition.conflict import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.inventory import Inventory, NodeEntry

#: Where time servers listen (RFC 5905).
NTP: Final = 123


def time_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Servers for ntp and for nothing else, each within reach, for every node one; a port for ptp."""
    time = inventory.host.time
    if time.source == "ntp" and not time.servers:
        yield Conflict(("time",), "time from NTP needs servers", "none", "servers: [address]", at_key=True)
    if time.source != "ntp" and time.servers:
        what = "PTP finds its grandmaster by itself" if time.source == "ptp" else "no time is asked for"
        yield Conflict(
            ("time", "servers"),
            f"servers are named, but source is {time.source}: {what}",
            ", ".join(map(str, time.servers)),
            "source: ntp, or no servers",
        )
    if time.source != "ptp" and time.interface:
        yield Conflict(
            ("time", "interface"), "an interface is named for PTP alone", time.interface, "source: ptp"
        )
    yield from _unreachable(inventory)
    yield from _asked_by_others(inventory)
    if time.source == "ptp":
        for node in inventory.nodes:
            yield from _without_port(node, time.interface)


def _unreachable(inventory: Inventory) -> Iterator[Conflict]:
    servers = inventory.host.time.servers
    reach = {
        node.name: [network for interface in node.interfaces for network in interface.reach]
        for node in inventory.nodes
    }
    for index, server in enumerate(servers):
        loc = ("time", "servers", index)
        for node in inventory.nodes:
            if server in [each.ip for interface in node.interfaces for each in interface.addresses]:
                yield Conflict(
                    loc, f"{server} is {node.name} itself", str(server), "a clock that is none of the nodes"
                )
        if not any(server in network for networks in reach.values() for network in networks):
            yield Conflict(
                loc,
                f"no node could reach {server}: it is on no link of theirs and behind no listed route, and "
                "there is no gateway",
                str(server),
                "an address on a node's own network, or in one that a listed route leads to",
            )
        if server in servers[:index]:
            yield Conflict(loc, f"{server} is written twice", str(server), "each once")
    for name, networks in reach.items() if servers else ():
        if not any(server in network for server in servers for network in networks):
            yield Conflict(
                ("time", "servers"),
                f"{name} could reach none of the time servers: none is on its links or behind its routes",
                ", ".join(map(str, servers)),
                "for every node a server on one of its networks",
            )


def _asked_by_others(inventory: Inventory) -> Iterator[Conflict]:
    """A flow would let every process ask the clock, or without answers keep chrony from hearing its own."""
    servers = set(inventory.host.time.servers)
    for node in inventory.nodes:
        for flow in node.flows:
            if flow.protocol != "udp" or not flow.goes("out") or not servers & set(flow.addresses):
                continue
            for index, (low, high) in enumerate(flow.ports):
                if low <= NTP <= high:
                    yield Conflict(
                        ("nodes", node.name, "flows", flow.name, "ports", index),
                        f"flow {flow.name} is with a time server: chrony alone asks it, by `time`",
                        str(low) if low == high else f"{low}-{high}",
                        f"ports without {NTP}",
                    )


def _without_port(node: NodeEntry, interface: str | None) -> Iterator[Conflict]:
    names = [each.name for each in node.interfaces]
    if interface is None and len(names) > 1:
        yield Conflict(
            ("time",),
            f"{node.name} has {len(names)} interfaces; say which one hears the grandmaster",
            ", ".join(names),
            "interface: a name that every node has",
            at_key=True,
        )
    if interface and interface not in names:
        yield Conflict(
            ("time", "interface"),
            f"{node.name} has no interface {interface}",
            interface,
            f"one of {', '.join(names)}",
        )
