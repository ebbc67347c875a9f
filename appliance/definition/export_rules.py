"""What a node's export must say about the rest of the inventory: its wire is of no other use.

A way out that is also a way in, or that others share, is not one-way; so neither the card nor the addresses
may be anything else's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.conflict import Conflict
from appliance.definition.inventory_flows import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from ipaddress import IPv4Address

    from appliance.definition.document import Loc
    from appliance.definition.export import Export
    from appliance.definition.inventory import Inventory, NodeEntry


def export_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Everything that is wrong with exports, node by node."""
    macs = {
        each.match.mac: f"{node.name} ({each.name})" for node in inventory.nodes for each in node.interfaces
    }
    owners: dict[IPv4Address, str] = {}
    for node in inventory.nodes:
        export = node.export
        if export is None:
            continue
        loc: Loc = ("nodes", node.name, "export")
        yield from _card(loc, node, export, macs)
        yield from _receiver(loc, export)
        yield from _addresses(loc, inventory, node, export)
        if export.address in owners:
            message = f"{export.address} is already the export's address of {owners[export.address]}"
            yield Conflict((*loc, "address"), message, str(export.address), "an address nothing else has")
        owners[export.address] = node.name
        if export.mac:
            macs[export.mac] = f"{node.name} (export)"


def _card(loc: Loc, node: NodeEntry, export: Export, macs: dict[str | None, str]) -> Iterator[Conflict]:
    place: Loc = (*loc, "match")
    if bool(export.mac) == bool(export.pci):
        yield Conflict(
            place,
            f"the export's card of {node.name} must be recognised by either mac or pci",
            "mac and pci" if export.mac else "neither",
            "mac: or pci:",
            at_key=True,
        )
    for interface in node.interfaces:
        if export.pci and interface.match.pci == export.pci:
            yield Conflict(
                (*place, "pci"),
                f"{export.pci} is the interface {interface.name}: the export needs a card of its own",
                export.pci,
                "a card that is no interface of the node",
            )
    if export.mac and export.mac in macs:
        yield Conflict(
            (*place, "mac"),
            f"{export.mac} already belongs to {macs[export.mac]}: the export needs a card of its own",
            export.mac,
            "the MAC address of a card that is no interface of the node",
        )


def _receiver(loc: Loc, export: Export) -> Iterator[Conflict]:
    receiver, place = export.receiver, (*loc, "receiver")
    if receiver.address == export.address:
        message = f"{receiver.address} is the node itself"
        yield Conflict((*place, "address"), message, str(receiver.address), "the receiver's address")
    if receiver.mac == export.mac:
        yield Conflict(
            (*place, "mac"),
            f"{receiver.mac} is the node itself",
            receiver.mac,
            "the receiver's MAC address",
        )
    if receiver.port in NEVER:
        yield Conflict(
            (*place, "port"),
            f"port {receiver.port} is {NEVER[receiver.port]}'s: what leaves there would not look like logs",
            str(receiver.port),
            "another port, as in 5514",
        )


def _addresses(loc: Loc, inventory: Inventory, node: NodeEntry, export: Export) -> Iterator[Conflict]:
    management = inventory.management
    for place, address in (
        ((*loc, "address"), export.address),
        ((*loc, "receiver", "address"), export.receiver.address),
    ):
        taken = [
            f"{network} on {interface.name} of {node.name}"
            for interface in node.interfaces
            for network in interface.reach
            if address in network
        ]
        taken += [f"the management network {each}" for each in management.networks if address in each]
        if address in (*management.operator, *management.foreign):
            taken.append("this station")
        if taken:
            yield Conflict(
                place,
                f"{address} is in {taken[0]}: the export's wire is of no other use",
                str(address),
                "an address that nothing else of the node reaches",
            )
