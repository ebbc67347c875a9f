"""What a site's source of time must say about its nodes: without a gateway only the own link is heard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.conflict import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.inventory import Inventory, NodeEntry


def time_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Servers for ntp and for nothing else, each on a link, for every node one; a port for ptp."""
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
    if time.source == "ptp":
        for node in inventory.nodes:
            yield from _without_port(node, time.interface)


def _unreachable(inventory: Inventory) -> Iterator[Conflict]:
    servers = inventory.host.time.servers
    links = {
        node.name: [each for interface in node.interfaces for each in interface.addresses]
        for node in inventory.nodes
    }
    for index, server in enumerate(servers):
        loc = ("time", "servers", index)
        for name, addresses in links.items():
            if server in [each.ip for each in addresses]:
                yield Conflict(
                    loc, f"{server} is {name} itself", str(server), "a clock that is none of the nodes"
                )
        if not any(server in each.network for addresses in links.values() for each in addresses):
            yield Conflict(
                loc,
                f"no node could reach {server}: it is on no link of theirs, and there is no gateway",
                str(server),
                "an address on a node's own network",
            )
        if server in servers[:index]:
            yield Conflict(loc, f"{server} is written twice", str(server), "each once")
    for name, addresses in links.items() if servers else ():
        if not any(server in each.network for server in servers for each in addresses):
            yield Conflict(
                ("time", "servers"),
                f"{name} could reach none of the time servers: none is on its links",
                ", ".join(map(str, servers)),
                "for every node a server on one of its networks",
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
