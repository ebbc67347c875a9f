"""What bonds, VLANs and listed routes must say about each other and about the cards below them.

The rules exist because a node that boots with half a bond, or with a route that leads everywhere, is
either out of reach or not isolated, and nobody sees it before.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING, Final

from appliance.definition.conflict import Conflict, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.definition.document import Loc
    from appliance.definition.inventory import Interface, Inventory, Network, NodeEntry, Route

#: What an Ethernet link carries when nobody asked for more.
DEFAULT_MTU: Final = 1500
#: The widest that listed routes may be, together: a larger part of the address space is no site.
WIDEST: Final = {4: 8, 6: 16}
#: Names that mean something else to the kernel.
RESERVED: Final = frozenset({"lo", "all", "default"})


def link_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Bonds of cards that are there and of no other use, VLANs on links that are there."""
    for node in inventory.nodes:
        yield from _names(node)
        yield from _bonds(node)
        yield from _vlans(node)
        yield from _idle(node)


def _names(node: NodeEntry) -> Iterator[Conflict]:
    sections: dict[str, str] = {}
    for interface in node.interfaces:
        loc = place_of(node, interface)
        if interface.name in sections:
            yield Conflict(
                loc,
                f"{interface.name} of {node.name} is both in {sections[interface.name]} and in "
                f"{interface.section}",
                interface.name,
                "each name once among interfaces, bonds and vlans",
                at_key=True,
            )
        sections[interface.name] = interface.section
        if interface.section != "interfaces" and interface.name in RESERVED:
            wanted = "a name of yours; the kernel's device is called so"
            yield Conflict(
                loc, f"{interface.name} is a word of the kernel", interface.name, wanted, at_key=True
            )


def _bonds(node: NodeEntry) -> Iterator[Conflict]:
    cards = {each.name: each for each in node.interfaces if each.section == "interfaces"}
    owners: dict[str, str] = {}
    for interface in node.interfaces:
        if interface.bond is None:
            continue
        loc = place_of(node, interface)
        for index, name in enumerate(interface.bond.interfaces):
            place: Loc = (*loc, "interfaces", index)
            if name not in cards:
                message = f"bond {interface.name} wants {name}, which is no interface of {node.name}"
                yield Conflict(place, message, name, f"of: {', '.join(cards)}")
                continue
            if name in owners:
                message = f"{name} cannot be in {owners[name]} and in {interface.name}"
                yield Conflict(place, message, name, "each interface in one bond, once")
            owners[name] = interface.name
            yield from _member(node, interface, cards[name])
        if interface.bond.lacp_rate and interface.bond.mode != "802.3ad":
            message = f"lacp_rate means nothing to a bond of mode {interface.bond.mode}"
            yield Conflict((*loc, "lacp_rate"), message, interface.bond.lacp_rate, "mode: 802.3ad")
        if interface.bond.transmit_hash_policy and interface.bond.mode == "active-backup":
            message = "transmit_hash_policy means nothing to a bond that sends over one interface at a time"
            found = interface.bond.transmit_hash_policy
            yield Conflict((*loc, "transmit_hash_policy"), message, found, "mode: 802.3ad or balance-xor")


def _member(node: NodeEntry, bond: Interface, card: Interface) -> Iterator[Conflict]:
    """What a bond gets its cards do not have."""
    own = {
        "addresses": card.addresses,
        "mtu": card.mtu,
        "link_local": card.link_local,
        "routes": card.routes,
    }
    for key, value in own.items():
        if value:
            yield Conflict(
                (*place_of(node, card), key),
                f"{card.name} of {node.name} is in the bond {bond.name} and can have no {key} of its own",
                key,
                f"{key} at the bond",
                at_key=True,
            )


def _vlans(node: NodeEntry) -> Iterator[Conflict]:
    below = {each.name: each for each in node.interfaces if each.vlan is None}
    members = {name for each in node.interfaces if each.bond for name in each.bond.interfaces}
    there: dict[tuple[str, int], str] = {}
    for interface in node.interfaces:
        if interface.vlan is None:
            continue
        loc, vlan = place_of(node, interface), interface.vlan
        parent = below.get(vlan.link)
        if parent is None or vlan.link in members:
            why = "a member of a bond" if vlan.link in members else "no interface or bond of the node"
            yield Conflict(
                (*loc, "link"),
                f"VLAN {interface.name} of {node.name} wants to be on {vlan.link}, which is {why}",
                vlan.link,
                f"of: {', '.join(name for name in below if name not in members)}",
            )
            continue
        key = (vlan.link, vlan.id)
        if key in there:
            message = f"{interface.name} and {there[key]} are the same VLAN {vlan.id} on {vlan.link}"
            yield Conflict((*loc, "id"), message, str(vlan.id), "each id once on a link")
        there[key] = interface.name
        if (interface.mtu or DEFAULT_MTU) > (parent.mtu or DEFAULT_MTU):
            yield Conflict(
                (*loc, "mtu"),
                f"VLAN {interface.name} cannot carry more than {vlan.link} below it",
                str(interface.mtu or DEFAULT_MTU),
                f"at most {parent.mtu or DEFAULT_MTU}, or a larger mtu at {vlan.link}",
            )


def _idle(node: NodeEntry) -> Iterator[Conflict]:
    """An interface without an address is there for a bond or a VLAN."""
    used = {name for each in node.interfaces if each.bond for name in each.bond.interfaces}
    used |= {each.vlan.link for each in node.interfaces if each.vlan}
    for interface in node.interfaces:
        if not interface.addresses and interface.name not in used:
            yield Conflict(
                (*place_of(node, interface), "addresses"),
                f"{interface.name} of {node.name} has no address: at least one is needed",
                "nothing",
                "an address with a prefix length, as in 10.20.0.11/24",
            )


def route_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Listed routes lead to networks of a site, by a router on the interface's own wire."""
    for node in inventory.nodes:
        own = [each.network for interface in node.interfaces for each in interface.addresses]
        listed: list[Network] = []
        for interface in node.interfaces:
            for index, route in enumerate(interface.routes):
                loc: Loc = (*place_of(node, interface), "routes", index)
                yield from _destination(loc, node, route, own, listed)
                yield from _router(loc, interface, route)
                listed.append(route.to)


def _destination(
    loc: Loc, node: NodeEntry, route: Route, own: list[Network], listed: list[Network]
) -> Iterator[Conflict]:
    to = route.to
    widest = next(each for each in together([*listed, to]) if _within(to, each))
    if widest.prefixlen < WIDEST[to.version]:
        with_others = "" if widest == to else f" (with the others: {widest})"
        yield Conflict(
            (*loc, "to"),
            f"a route to {to}{with_others} is a gateway: an isolated node has no way out",
            str(widest),
            f"networks of the site, in all not wider than /{WIDEST[to.version]}",
            way_out=True,
        )
    if to.is_loopback or to.is_multicast or to.is_link_local:
        message = f"{to} is not beyond any router: loopback, multicast and link-local stay where they are"
        yield Conflict((*loc, "to"), message, str(to), "a network of the site")
    for other in (*own, *listed):
        if other.version == to.version and other.overlaps(to):
            yield Conflict(
                (*loc, "to"),
                f"a route to {to} overlaps {other}, which {node.name} reaches already",
                str(to),
                "networks that share no address",
            )


def together(networks: Iterable[Network]) -> list[Network]:
    """The networks of both families, neighbours joined: two halves are the whole."""
    networks = list(networks)
    four = [each for each in networks if isinstance(each, IPv4Network)]
    six = [each for each in networks if isinstance(each, IPv6Network)]
    return [*collapse_addresses(four), *collapse_addresses(six)]


def _within(network: Network, other: Network) -> bool:
    return network.version == other.version and network.subnet_of(other)  # type: ignore[arg-type]  # same family


def _router(loc: Loc, interface: Interface, route: Route) -> Iterator[Conflict]:
    own = [each for each in interface.addresses if each.version == route.to.version]
    if route.via.version != route.to.version:
        message = f"a route to {route.to} cannot go by {route.via}, which is of the other family"
        yield Conflict((*loc, "via"), message, str(route.via), f"an IPv{route.to.version} address")
    elif not any(route.via in each.network for each in own):
        wanted = f"an address in {', '.join(str(each.network) for each in own) or 'a network of its own'}"
        message = f"{interface.name} cannot reach {route.via}: it is not on its wire"
        yield Conflict((*loc, "via"), message, str(route.via), wanted)
    elif route.via in [each.ip for each in own]:
        message = f"{route.via} is the node itself"
        yield Conflict((*loc, "via"), message, str(route.via), "the router's address")
