"""Allowed flows as the firewall's rules need them: one device, peer and range of ports each."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable


def appliance_flows(flows: list[dict[str, Any]], interfaces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every flow, taken apart.

    Args:
        flows: ``[{name, interface, directions, protocol, ports, peers, answers}]``.
        interfaces: ``[{name, device, …}]``: the inventory's name and the kernel's.

    Returns:
        ``[{flow, device, direction, protocol, port, peer, version, answers, mutual}]``; ``port``: ``4791``
        or ``50000:50999``, ``version`` 4 or 6, ``mutual`` whether either side may begin.

    Raises:
        AnsibleFilterError: a flow is over an interface that the node does not have.
    """
    devices = {interface["name"]: interface["device"] for interface in interfaces}
    rules: list[dict[str, Any]] = []
    for flow in flows:
        if flow["interface"] not in devices:
            there = ", ".join(devices)
            raise AnsibleFilterError(
                f"flow {flow['name']}: no interface {flow['interface']}, but {there}; correct the inventory"
            )
        rules += [
            {
                "flow": flow["name"],
                "device": devices[flow["interface"]],
                "direction": direction,
                "protocol": flow["protocol"],
                "port": port,
                "peer": peer,
                "version": ip_address(peer).version,
                "answers": flow["answers"],
                "mutual": len(flow["directions"]) > 1,
            }
            for direction in flow["directions"]
            for peer in flow["peers"]
            for port in flow["ports"]
        ]
    return rules


def appliance_mute(flows: list[dict[str, Any]], heard: list[dict[str, Any]]) -> list[str]:
    """Devices that only send: no SSH or time, nothing that peers begin, no answers.  Nothing may come in.

    Args:
        flows: as ``appliance_flows`` gives them.
        heard: where SSH is admitted and time servers are asked, as ``appliance_admit`` and
            ``appliance_ask`` give it.

    Returns:
        Kernel names, sorted.
    """
    listening = {pair["device"] for pair in heard}
    listening |= {rule["device"] for rule in flows if rule["direction"] == "in" or rule["answers"]}
    return sorted({rule["device"] for rule in flows} - listening)


class FilterModule:
    """Registers the filters with Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"appliance_flows": appliance_flows, "appliance_mute": appliance_mute}
