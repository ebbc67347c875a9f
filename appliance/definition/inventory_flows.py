"""What an allowed flow may be: named peers on a wire of the node, and nothing that undoes the isolation.

A flow is an exception, and the only one besides management SSH.  So each says with whom, over which
interface, which way and on which ports; and none may be a way to names, addresses or anybody at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.definition.conflict import Conflict
from appliance.definition.partition import instances

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.document import Loc
    from appliance.definition.inventory import Address, Flow, Interface, Inventory, NodeEntry

#: Ports that an isolated node speaks to nobody on: DNS, DHCP, multicast DNS, LLMNR (IANA's registry).
NEVER: Final = {
    **dict.fromkeys((53, 853), "DNS"),
    **dict.fromkeys((67, 68, 546, 547), "DHCP"),
    5353: "multicast DNS",
    5355: "LLMNR",
}


def flow_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Everything that is wrong with flows, node by node."""
    for node in inventory.nodes:
        interfaces = {each.name: each for each in node.interfaces if each.addresses}
        for flow in node.flows:
            loc: Loc = ("nodes", node.name, "flows", flow.name)
            if flow.interface not in interfaces:
                yield Conflict(
                    (*loc, "interface"),
                    f"flow {flow.name}: {flow.interface} is no interface of {node.name} with an address",
                    flow.interface,
                    f"of: {', '.join(interfaces)}",
                )
                continue
            yield from _ports(loc, inventory, node, flow)
            yield from _peers(loc, inventory, node, flow, interfaces[flow.interface])


def _ports(loc: Loc, inventory: Inventory, node: NodeEntry, flow: Flow) -> Iterator[Conflict]:
    kept = {node.port: "SSH, which is the management networks'"} if flow.protocol == "tcp" else {}
    for each in instances(inventory, node):
        kept[each.port] = "the inference server, which is on loopback only"
    for index, (low, high) in enumerate(flow.ports):
        place: Loc = (*loc, "ports", index)
        found = str(low) if low == high else f"{low}-{high}"
        for port, what in NEVER.items():
            if low <= port <= high:
                message = (
                    f"flow {flow.name} would let {what} through (port {port}): an isolated node has none"
                )
                yield Conflict(place, message, found, f"ports without {port}")
        for port, what in kept.items():
            if flow.goes("in") and low <= port <= high:
                yield Conflict(
                    place, f"port {port} of {node.name} is {what}", found, f"ports without {port}"
                )
        for other in flow.ports[:index]:
            if low <= other[1] and other[0] <= high:
                yield Conflict(place, f"ports of flow {flow.name} overlap", found, "each port once")


def _peers(
    loc: Loc, inventory: Inventory, node: NodeEntry, flow: Flow, interface: Interface
) -> Iterator[Conflict]:
    reach = ", ".join(str(network) for network in interface.reach)
    seen: dict[Address, str] = {}
    for index, peer in enumerate(flow.peers):
        place: Loc = (*loc, "peers", index)
        if not peer.addresses:
            others = ", ".join(each.name for each in inventory.nodes if each.name != node.name) or "none"
            yield Conflict(
                place,
                f"{peer.text} is neither an address nor a node that {flow.interface} reaches",
                peer.text,
                f"an address in {reach}, or another node with one (nodes: {others})",
            )
        for address in peer.addresses:
            if found := _unfit(address, inventory, node, interface):
                yield Conflict(
                    place, f"flow {flow.name} with {address}: {found}", peer.text, f"a peer in {reach}"
                )
            if address in seen:
                message = f"{address} is twice a peer of flow {flow.name}"
                yield Conflict(place, message, peer.text, "each peer once")
            seen[address] = peer.text


def _unfit(address: Address, inventory: Inventory, node: NodeEntry, interface: Interface) -> str:
    """Why an address can be no peer; empty if it can."""
    management = inventory.management
    networks = [network for network in interface.reach if address in network]
    if not networks:
        return f"{interface.name} of {node.name} does not reach it"
    if address in [each.ip for one in node.interfaces for each in one.addresses]:
        return f"it is {node.name} itself"
    if any(address in network for network in management.networks):
        return "it is in a management network, from which SSH comes and where nothing goes"
    if address in (*management.operator, *management.foreign):
        return "it is this station's, by which the isolation is proven"
    ends = [end for each in networks if each.num_addresses > 2 for end in (each[0], each[-1])]  # noqa: PLR2004
    return "it is the address of a network or of everybody in it" if address in ends else ""
