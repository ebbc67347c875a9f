"""What the inventory allows on a card's cable: which links it carries, with whom each may speak.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.definition.inventory import Address, Flow, Interface, Inventory, Network, NodeEntry


@dataclass(frozen=True)
class Link:
    """What a node may send by one of its interfaces.

    Args:
        name: the inventory's word for the interface.
        own: its addresses.
        wire: the networks of its wire.
        ssh: management networks it reaches; SSH answers there, from ``ssh_port``.
        ssh_port: the port on which SSH answers.
        flows: the declared flows over it.
        clocks: time servers it reaches.
        ptp: whether it keeps time with the wire by PTP.
        vias: who passes packets on, by listed routes.
        link_local: whether IPv6 makes itself an address.
    """

    name: str
    own: frozenset[Address]
    wire: tuple[Network, ...]
    ssh: tuple[Network, ...] = ()
    ssh_port: int = 22
    flows: tuple[Flow, ...] = ()
    clocks: frozenset[Address] = frozenset()
    ptp: bool = False
    vias: frozenset[Address] = frozenset()
    link_local: bool = False

    def speaks_to(self, address: Address) -> bool:
        """Whether packets may go to this address, or by way of it: who may be asked for on the wire."""
        if not any(address in network for network in self.wire):
            return False
        return (
            address in self.vias
            or address in self.clocks
            or any(address in network for network in self.ssh)
            or any(address in flow.addresses for flow in self.flows)
        )

    def is_own(self, address: Address) -> bool:
        """Whether the address is this interface's; a link-local one where it was asked for."""
        if self.link_local and isinstance(address, IPv6Address) and address.is_link_local:
            return True
        return address in self.own


@dataclass(frozen=True)
class Cable:
    """The cable of one card.

    Args:
        card: the inventory's word for the card.
        links: by VLAN number (None: what is not tagged), the interface whose frames pass.
        macs: the addresses that frames may come from; None where the inventory does not tell them: of
            cards found by another mark, and of bonds.
        lacp: whether the card speaks with its switch about a bond.
    """

    card: str
    links: dict[int | None, Link]
    macs: frozenset[str] | None = None
    lacp: bool = False


def cable_of(inventory: Inventory, node: NodeEntry, card: str) -> Cable:
    """The cable of a node's card.

    A card that the inventory does not have may send nothing.

    Args:
        inventory: the site.
        node: one of its nodes.
        card: the inventory's word for one of the node's cards.
    """
    below = next(
        (each for each in node.interfaces if each.name == card and each.section == "interfaces"), None
    )
    if below is None:
        return Cable(card, {})
    bond = next((each for each in node.interfaces if each.bond and card in each.bond.interfaces), None)
    carrier = bond or below
    links: dict[int | None, Link] = {None: _link(inventory, node, carrier)}
    for each in node.interfaces:
        if each.vlan and each.vlan.link == carrier.name:
            links[each.vlan.id] = _link(inventory, node, each)
    mac = below.match.mac
    return Cable(
        card,
        links,
        macs=frozenset({mac}) if mac and not bond else None,
        lacp=bool(bond and bond.bond and bond.bond.mode == "802.3ad"),
    )


def cards_of(node: NodeEntry) -> tuple[str, ...]:
    """The inventory's words for a node's cards: all that has a cable."""
    return tuple(each.name for each in node.interfaces if each.section == "interfaces")


def _link(inventory: Inventory, node: NodeEntry, interface: Interface) -> Link:
    time = inventory.host.time
    reach = interface.reach
    return Link(
        interface.name,
        own=frozenset(each.ip for each in interface.addresses),
        wire=tuple(each.network for each in interface.addresses),
        ssh=tuple(
            network
            for network in inventory.management.networks
            if any(_overlap(network, each) for each in reach)
        ),
        ssh_port=node.port,
        flows=tuple(flow for flow in node.flows if flow.interface == interface.name),
        clocks=frozenset(each for each in time.servers if any(each in network for network in reach)),
        ptp=time.source == "ptp" and time.interface in {None, interface.name},
        vias=frozenset(route.via for route in interface.routes),
        link_local=interface.link_local,
    )


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
