"""What the values of an inventory must say about each other.

Each rule looks at a whole, well-formed ``Inventory`` and yields what contradicts; the order of the rules
is the order in which a person would want to hear of it.  The rules exist because after the
installation there is no gateway: an address that does not fit here is a node nobody can reach.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.conflict import Conflict, place_of
from appliance.definition.disks_rules import disk_conflicts
from appliance.definition.export_rules import export_conflicts
from appliance.definition.host_rules import time_conflicts
from appliance.definition.inventory_flows import flow_conflicts
from appliance.definition.inventory_links import WIDEST, link_conflicts, route_conflicts, together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.document import Loc
    from appliance.definition.inventory import Address, InterfaceAddress, Inventory, NodeEntry


def first_conflict(inventory: Inventory) -> Conflict | None:
    """The first contradiction, or None."""
    for rule in (
        _networks,
        _management,
        _interfaces,
        link_conflicts,
        route_conflicts,
        _identities,
        _ssh,
        _served,
        _reachable,
        flow_conflicts,
        export_conflicts,
        disk_conflicts,
        time_conflicts,
    ):
        for conflict in rule(inventory):
            return conflict
    return None


def _networks(inventory: Inventory) -> Iterator[Conflict]:
    """Management networks do not overlap, and are not the world, alone or together."""
    networks, here = inventory.management.networks, ("management", "networks")
    for index, network in enumerate(networks):
        for earlier in networks[:index]:
            if network.version == earlier.version and network.overlaps(earlier):
                yield Conflict(
                    (*here, index),
                    f"management network {network} overlaps {earlier}",
                    str(network),
                    "networks that share no address",
                )
    for network in together(networks):
        if network.prefixlen < WIDEST[network.version]:
            yield Conflict(
                here,
                f"management networks that make {network} admit the world: that protects nothing",
                str(network),
                f"networks of the site, in all not wider than /{WIDEST[network.version]}",
            )


def _management(inventory: Inventory) -> Iterator[Conflict]:
    """Operators inside the management networks, foreign addresses outside, none twice."""
    management = inventory.management
    here: Loc = ("management",)
    networks = management.networks
    names = ", ".join(str(network) for network in networks)
    for index, address in enumerate(management.operator):
        loc = (*here, "operator", index)
        if not any(address in network for network in networks):
            yield Conflict(
                loc,
                f"operator address {address} is not in the management networks: SSH would be refused",
                str(address),
                f"an address in {names}",
            )
        if address in management.operator[:index]:
            yield Conflict(loc, f"operator address {address} is written twice", str(address), "each once")
    for index, address in enumerate(management.foreign):
        loc = (*here, "foreign", index)
        if any(address in network for network in networks):
            yield Conflict(
                loc,
                f"foreign address {address} lies inside the management networks: it proves nothing",
                str(address),
                f"an address outside {names}",
            )
        if address in management.foreign[:index]:
            yield Conflict(loc, f"foreign address {address} is written twice", str(address), "each once")


def _interfaces(inventory: Inventory) -> Iterator[Conflict]:
    """Each card is recognised by one thing, and no two interfaces of a node lead to the same network."""
    for node in inventory.nodes:
        seen: set[tuple[str, str]] = set()
        for index, interface in enumerate(node.interfaces):
            loc = place_of(node, interface)
            match = interface.match.as_dict()
            if interface.section == "interfaces" and len(match) != 1:
                yield Conflict(
                    (*loc, "match"),
                    f"interface {interface.name} must be recognised by either mac or pci or name",
                    " and ".join(match) or "neither",
                    "mac:, pci: or name:",
                    at_key=True,
                )
            for key in sorted(match.items() & seen):
                yield Conflict(
                    (*loc, "match", key[0]),
                    f"two interfaces of {node.name} match the same {key[0]}",
                    key[1],
                    f"each {key[0]} once",
                )
            seen |= {(kind, text) for kind, text in match.items() if kind != "mac"}
            earlier = [other for before in node.interfaces[:index] for other in before.addresses]
            for place, address in enumerate(interface.addresses):
                yield from _overlaps(node, (*loc, "addresses", place), address, earlier)


def _overlaps(
    node: NodeEntry, loc: Loc, address: InterfaceAddress, earlier: list[InterfaceAddress]
) -> Iterator[Conflict]:
    for other in earlier:
        if address.version == other.version and address.network.overlaps(other.network):
            yield Conflict(
                loc,
                f"{address} overlaps {other} on another interface of {node.name}: replies would go astray",
                str(address.network),
                f"a network apart from {other.network}",
            )


def _identities(inventory: Inventory) -> Iterator[Conflict]:
    """No address and no MAC belongs to two things; one local node at most."""
    owners: dict[Address, str] = {}
    for address in (*inventory.management.operator, *inventory.management.foreign):
        owners[address] = "this station"
    macs: dict[str, str] = {}
    local: str | None = None
    for node in inventory.nodes:
        if node.connection == "local":
            if local:
                yield Conflict(
                    ("nodes", node.name, "connection"),
                    f"{node.name} and {local} cannot both be this very machine",
                    "connection: local twice",
                    "one local node at most",
                )
            local = node.name
        for interface in node.interfaces:
            loc = place_of(node, interface)
            owner = f"{node.name} ({interface.name})"
            for place, address in enumerate(interface.addresses):
                if address.ip in owners and (
                    node.connection == "ssh" or owners[address.ip] != "this station"
                ):
                    yield Conflict(
                        (*loc, "addresses", place),
                        f"{address.ip} already belongs to {owners[address.ip]}",
                        str(address),
                        "an address nothing else has",
                    )
                owners[address.ip] = owner
            mac = interface.match.mac
            if mac and mac in macs:
                yield Conflict(
                    (*loc, "match", "mac"),
                    f"MAC address {mac} already belongs to {macs[mac]}",
                    mac,
                    "a MAC address nothing else has",
                )
            if mac:
                macs[mac] = owner


def _ssh(inventory: Inventory) -> Iterator[Conflict]:
    """SSH nodes need an ssh section, and answer at an address of their own."""
    for node in inventory.nodes:
        if node.connection == "ssh" and inventory.ssh is None:
            yield Conflict(
                ("nodes", node.name),
                f"{node.name} is reached over SSH, but there is no ssh section",
                "nothing",
                "ssh: with known_hosts",
                at_key=True,
            )
        own = [address for interface in node.interfaces for address in interface.addresses]
        if node.address not in [address.ip for address in own]:
            yield Conflict(
                ("nodes", node.name, "address"),
                f"{node.name} would not answer at {node.address}: none of its interfaces gets it",
                str(node.address),
                "one of " + ", ".join(str(address.ip) for address in own),
            )


def _served(inventory: Inventory) -> Iterator[Conflict]:
    """Nothing is served at SSH's port: two cannot open it, and tunnels to it would lead to SSH."""
    for node in inventory.nodes:
        if node.partition is None and inventory.inference_port == node.port:
            yield Conflict(
                ("nodes", node.name, "port"),
                f"port {node.port} of {node.name} is the one at which the model is served on loopback",
                f"port: {node.port}, inference.port: {inventory.inference_port}",
                "a port for SSH that nobody else has, or another under inference: port:",
            )
        for team in node.partition.teams if node.partition else ():
            if team.port == node.port:
                yield Conflict(
                    ("nodes", node.name, "gpus", "teams", team.name, "port"),
                    f"port {team.port} of {node.name} is SSH's",
                    str(team.port),
                    f"a port for {team.name} that nobody else has",
                )


def _reachable(inventory: Inventory) -> Iterator[Conflict]:
    """An operator is on the node's own link, or behind a listed route: nothing else can be answered."""
    operators = inventory.management.operator
    for node in inventory.nodes:
        loc: Loc = ("nodes", node.name, "address")
        same_family = [address for address in operators if address.version == node.address.version]
        if not same_family:
            yield Conflict(
                loc,
                f"{node.name} answers over IPv{node.address.version}, no operator address is of that kind",
                str(node.address),
                "an operator address of the same family",
            )
        links = [
            network
            for interface in node.interfaces
            if node.address in [address.ip for address in interface.addresses]
            for network in interface.reach
            if network.version == node.address.version
        ]
        if not any(address in link for address in same_family for link in links):
            yield Conflict(
                loc,
                f"{node.name} could not answer any operator: none is on its link or behind a listed route",
                ", ".join(str(address) for address in same_family),
                f"an operator address in {', '.join(str(link) for link in links)}",
            )
