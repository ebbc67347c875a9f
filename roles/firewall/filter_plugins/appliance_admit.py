"""Who may reach this node over SSH, and where: decided on the controller, before the node is touched."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Network, IPv6Network


def appliance_admit(interfaces: list[dict[str, Any]], networks: list[str]) -> list[dict[str, Any]]:
    """Pair each management network with the interfaces that are on it.

    An isolated node has no gateway, so a network can be reached only over an interface with an address
    whose subnet overlaps it, or with a listed route that leads there.

    Args:
        interfaces: ``[{device, addresses: ["10.0.0.1/24"], routes: [{to, via}]}]``; routes may be missing.
        networks: management networks, IPv4 and IPv6.

    Returns:
        ``[{device, network, version}]`` in the order of ``networks``; ``version`` is 4 or 6.

    Raises:
        AnsibleFilterError: no pair at all; with these rules nobody could reach the node.
    """
    pairs: list[dict[str, Any]] = []
    for text in networks:
        network = ip_network(text)
        for interface in interfaces:
            subnets = _reach(interface)
            if any(subnet.version == network.version and subnet.overlaps(network) for subnet in subnets):
                pair = {"device": interface["device"], "network": str(network), "version": network.version}
                pairs.append(pair)
    if not pairs:
        there = ", ".join(address for interface in interfaces for address in interface["addresses"])
        raise AnsibleFilterError(
            f"no management network ({', '.join(networks)}) is on a network of this node ({there}); "
            "nobody could reach it over SSH; correct the inventory"
        )
    return pairs


def appliance_ask(interfaces: list[dict[str, Any]], servers: list[str]) -> list[dict[str, Any]]:
    """Pair each time server with the interfaces that reach it.

    Args:
        interfaces: ``[{device, addresses: ["10.0.0.1/24"], routes: [{to, via}]}]``; routes may be missing.
        servers: addresses, IPv4 and IPv6.

    Returns:
        ``[{device, server, version}]``; a server that no interface leads to is left out, as no packet
        could reach it.
    """
    return [
        {"device": interface["device"], "server": text, "version": ip_address(text).version}
        for text in servers
        for interface in interfaces
        if any(ip_address(text) in network for network in _reach(interface))
    ]


def _reach(interface: dict[str, Any]) -> list[IPv4Network | IPv6Network]:
    """Networks that packets go to over this interface: its own wire's, and those of its routes."""
    return [
        *(ip_interface(address).network for address in interface["addresses"]),
        *(ip_network(route["to"]) for route in interface.get("routes") or ()),
    ]


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"appliance_admit": appliance_admit, "appliance_ask": appliance_ask}
