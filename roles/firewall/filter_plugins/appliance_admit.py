"""Who may reach this node over SSH, and where: decided on the controller, before the node is touched."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network

from ansible.errors import AnsibleFilterError


def appliance_admit(interfaces, networks):
    """Pair each management network with the interfaces that are on it.

    An isolated node has no gateway, so a network can be reached only over an interface with an address
    whose subnet overlaps it.

    Args:
        interfaces: ``[{device, addresses: ["10.0.0.1/24"]}]``.
        networks: management networks, IPv4 and IPv6.

    Returns:
        ``[{device, network, version}]`` in the order of ``networks``; ``version`` is 4 or 6.

    Raises:
        AnsibleFilterError: no pair at all; with these rules nobody could reach the node.
    """
    pairs = []
    for text in networks:
        network = ip_network(text)
        for interface in interfaces:
            subnets = [ip_interface(address).network for address in interface["addresses"]]
            if any(subnet.version == network.version and subnet.overlaps(network) for subnet in subnets):
                pairs.append({"device": interface["device"], "network": str(network), "version": network.version})
    if not pairs:
        there = ", ".join(address for interface in interfaces for address in interface["addresses"])
        raise AnsibleFilterError(
            f"no management network ({', '.join(networks)}) is on a network of this node ({there}); "
            "nobody could reach it over SSH; correct the inventory"
        )
    return pairs


class FilterModule:
    """Registers the filter with Ansible."""

    def filters(self):
        return {"appliance_admit": appliance_admit}
