"""What an isolated node's network must look like, and what differs from that: values in, values out.

The rules:

* An interface of the inventory has exactly its static addresses; every other interface but ``lo`` has
  none.  Link-local addresses count as addresses.
* No route but the ones the kernel makes for the node's own addresses.
* Files of ours have exactly our text.  Files of others that would configure the network are put aside.
* Services that configure the network or answer names are off; systemd-networkd is on.
* Kernel settings hold for every interface there is.

``Observed`` is what ``appliance_network_node`` reads; ``differences`` is empty when nothing is to be done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any


class Impossible(Exception):
    """The wanted network cannot be had on this node; the text says why and what to do."""


@dataclass(frozen=True)
class Link:
    """A network interface.  ``hardware``: a device stands behind it, so its MAC address is its own."""

    name: str
    mac: str
    hardware: bool
    addresses: tuple[str, ...] = ()  # "10.0.0.1/24"


@dataclass(frozen=True)
class Service:
    """A unit of the node; one that is not installed is neither active nor enabled."""

    active: bool = False
    enabled: bool = False


@dataclass(frozen=True)
class Wanted:
    """The network to bring about.

    ``addresses``: kernel name to addresses.  ``files``: path to text.  ``settings``: path below
    /proc/sys/net to value, with ``*`` for every interface.
    """

    addresses: dict[str, tuple[str, ...]]
    files: dict[str, str]
    settings: dict[str, str]
    services_on: tuple[str, ...]
    services_off: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """The network as it is.

    ``routes``: those the kernel did not make, as ``ip route`` arguments.  ``foreign``: files of others.
    ``clients``: ``{process id: name}`` of DHCP clients.  ``settings``: those of ``Wanted``, expanded.
    """

    links: tuple[Link, ...] = ()
    routes: tuple[str, ...] = ()
    files: dict[str, str | None] = field(default_factory=dict)
    foreign: tuple[str, ...] = ()
    services: dict[str, Service] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    clients: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """One thing that is not as wanted.  ``kind`` is what repairs it; empty text means absent."""

    kind: str  # file, foreign, service, address, surplus, route, setting, client
    subject: str
    found: str
    wanted: str


def resolve(interfaces: list[dict[str, Any]], links: tuple[Link, ...]) -> list[tuple[dict[str, Any], Link]]:
    """Find each interface of the inventory among the node's links.

    Args:
        interfaces: ``[{name, match: {mac} or {name}, addresses}]``.
        links: the node's links.

    Returns:
        ``[(interface, link)]``.

    Raises:
        Impossible: an interface matches no link, several links, or the link of another interface.
    """
    pairs: list[tuple[dict[str, Any], Link]] = []
    for interface in interfaces:
        match = interface["match"]
        if match.get("mac"):
            mac = match["mac"].lower()
            found = [link for link in links if link.mac == mac]
            # A bridge or VLAN borrows the address of its device; the device is meant.
            found = [link for link in found if link.hardware] or found
        else:
            found = [link for link in links if link.name == match["name"]]
        if len(found) != 1:
            there = ", ".join(f"{link.name} ({link.mac})" for link in links) or "no interface"
            raise Impossible(
                f"interface {interface['name']}: {len(found)} interfaces of this node match "
                f"{match.get('mac') or match['name']}; the node has {there}; correct the inventory"
            )
        taken = [other["name"] for other, link in pairs if link.name == found[0].name]
        if taken:
            raise Impossible(f"interfaces {taken[0]} and {interface['name']} are both {found[0].name}")
        pairs.append((interface, found[0]))
    return pairs


def netplan_text(pairs: list[tuple[dict[str, Any], Link]]) -> str:
    """The netplan file, in netplan's reference's terms: static addresses and every automatism off.

    ``ignore-carrier`` gives a port its addresses with the cable out; ``optional`` lets the node boot then.
    A device without a MAC address of its own (a veth of a practice node) is matched by name, because
    systemd-networkd compares netplan's ``macaddress`` with the permanent address.
    """
    lines = [
        "# Written by the role network_isolation. Static addresses only: no gateway, route or name server.",
        "network:",
        "  version: 2",
        "  renderer: networkd",
        "  ethernets:",
    ]
    for interface, link in pairs:
        by_mac = interface["match"].get("mac") and link.hardware
        lines += [
            f"    {interface['name']}:",
            "      match:",
            f'        macaddress: "{link.mac}"' if by_mac else f'        name: "{link.name}"',
            "      dhcp4: false",
            "      dhcp6: false",
            "      accept-ra: false",
            "      link-local: []",
            "      optional: true",
            "      ignore-carrier: true",
            "      addresses:",
            *[f'        - "{canonical(address)}"' for address in interface["addresses"]],
        ]
    return "\n".join(lines) + "\n"


def canonical(address: str) -> str:
    """An interface address in its one spelling: ``fd00::1/64``."""
    return str(ip_interface(address))


def differences(wanted: Wanted, observed: Observed) -> list[Difference]:
    """Everything that is not as wanted, in the order in which it is repaired."""
    found = []
    for path, text in wanted.files.items():
        before = observed.files.get(path)
        if before != text:
            found.append(Difference("file", path, before or "", text))
    found += [Difference("foreign", path, "configures the network", "") for path in observed.foreign]
    found += _services(wanted, observed)
    for pid, name in sorted(observed.clients.items()):
        found.append(Difference("client", str(pid), f"{name} runs", ""))
    for name, value in sorted(observed.settings.items()):
        if value != wanted_setting(wanted.settings, name):
            found.append(Difference("setting", name, value, wanted_setting(wanted.settings, name)))
    found += _addresses(wanted, observed)
    return found + [Difference("route", route, route, "") for route in observed.routes]


def wanted_setting(settings: dict[str, str], name: str) -> str:
    """The value for one setting's path, from its own entry or the one with ``*``."""
    parts = name.split("/")
    pattern = "/".join([*parts[:2], "*", *parts[3:]])
    return str(settings[name] if name in settings else settings[pattern])


def _services(wanted: Wanted, observed: Observed) -> list[Difference]:
    found = []
    for unit in wanted.services_off:
        state = observed.services.get(unit, Service())
        if state.active or state.enabled:
            found.append(Difference("service", unit, _words(state), "off"))
    for unit in wanted.services_on:
        state = observed.services.get(unit, Service())
        if not (state.active and state.enabled):
            found.append(Difference("service", unit, _words(state), "on"))
    return found


def _words(state: Service) -> str:
    return f"{'enabled' if state.enabled else 'disabled'}, {'active' if state.active else 'inactive'}"


def _addresses(wanted: Wanted, observed: Observed) -> list[Difference]:
    found: list[Difference] = []
    for link in observed.links:
        should = [canonical(address) for address in wanted.addresses.get(link.name, ())]
        found += [
            Difference("address", f"{link.name} {address}", "", address)
            for address in should
            if address not in link.addresses
        ]
        found += [
            Difference("surplus", f"{link.name} {address}", address, "")
            for address in link.addresses
            if address not in should
        ]
    return found
