"""What an isolated node's network must look like, and what differs from that: values in, values out.

The rules:

* An interface of the inventory has exactly its static addresses; every other interface but ``lo`` has
  none.  Link-local addresses count as addresses, except where the inventory asks for them.
* No route but the ones the kernel makes for the node's own addresses, and those that are listed.
* Bonds and VLANs are those of the inventory, made as it says; a card belongs to its bond and nothing else.
* Files of ours have exactly our text.  Files of others that would configure the network are put aside.
* Services that configure the network or answer names are off; systemd-networkd is on.
* Kernel settings hold for every interface there is.

``Observed`` is what ``appliance_network_node`` reads; ``differences`` is empty when nothing is to be done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from typing import Any

#: What a bond is if nobody says otherwise (the kernel's defaults, bonding.rst).
LACP_RATE, HASH_POLICY = "slow", "layer2"

#: What iproute2 tells of a route that nobody asked for: the main table, the kernel's metric for IPv6.
UNASKED = re.compile(r" table main\b| metric 1024$")


class Impossible(Exception):
    """The wanted network cannot be had on this node; the text says why and what to do."""


@dataclass(frozen=True)
class Link:
    """A network interface.

    ``mac``: the permanent address, where the kernel tells one.  ``hardware``: a device stands behind it, so
    its MAC address is its own; ``pci``: that device's address.  ``made``: what a bond or VLAN is, in the
    words of ``made_text``.  ``master``: the bond or bridge that it belongs to.
    """

    name: str
    mac: str
    hardware: bool
    addresses: tuple[str, ...] = ()  # "10.0.0.1/24"
    pci: str = ""
    made: str = ""
    master: str = ""
    mtu: int = 0


@dataclass(frozen=True)
class Service:
    """A unit of the node; one that is not installed is neither active nor enabled."""

    active: bool = False
    enabled: bool = False


@dataclass(frozen=True)
class Wanted:
    """The network to bring about.

    ``addresses``: kernel name to addresses.  ``files``: path to text.  ``settings``: path below
    /proc/sys/net to value, with ``*`` for every interface.  ``routes``: as ``ip route`` arguments.
    ``made``: bonds and VLANs by name, in the words of ``made_text``.  ``masters``: kernel name of each
    declared card to the bond it belongs to, or "".  ``link_local``: devices that may have such an address.
    """

    addresses: dict[str, tuple[str, ...]]
    files: dict[str, str]
    settings: dict[str, str]
    services_on: tuple[str, ...]
    services_off: tuple[str, ...]
    routes: tuple[str, ...] = ()
    mtus: dict[str, int] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)
    masters: dict[str, str] = field(default_factory=dict)
    link_local: frozenset[str] = frozenset()


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

    kind: (
        str  # file, foreign, service, client, setting, device, master, mtu, address, surplus, listed, route
    )
    subject: str
    found: str
    wanted: str


Pair = tuple[dict[str, Any], Link]


def resolve(interfaces: list[dict[str, Any]], links: tuple[Link, ...]) -> list[Pair]:
    """Find each interface of the inventory among the node's links.

    Args:
        interfaces: ``[{name, match: {mac}, {pci} or {name}, addresses, …}]``; a bond or VLAN has no match.
        links: the node's links.

    Returns:
        ``[(interface, link)]``; the link of a bond or VLAN that is yet to be made has only its name.

    Raises:
        Impossible: an interface matches no link, several links, or the link of another interface.
    """
    pairs: list[Pair] = []
    for interface in interfaces:
        link = _find(interface, links) if interface.get("match") else _made(interface, links)
        taken = [other["name"] for other, before in pairs if before.name == link.name]
        if taken:
            raise Impossible(f"interfaces {taken[0]} and {interface['name']} are both {link.name}")
        pairs.append((interface, link))
    return pairs


def _find(interface: dict[str, Any], links: tuple[Link, ...]) -> Link:
    """The card that an interface matches."""
    match = interface["match"]
    if match.get("mac"):
        mac = match["mac"].lower()
        found = [link for link in links if link.mac == mac]
        # A bridge, bond or VLAN borrows the address of its device; the device is meant.
        found = [link for link in found if link.hardware] or [link for link in found if not link.made]
    elif match.get("pci"):
        found = [link for link in links if link.pci == match["pci"].lower()]
    else:
        found = [link for link in links if link.name == match["name"]]
    if len(found) != 1:
        there = ", ".join(f"{link.name} ({link.mac})" for link in links) or "no interface"
        raise Impossible(
            f"interface {interface['name']}: {len(found)} interfaces of this node match "
            f"{next(filter(None, match.values()), 'nothing')}; the node has {there}; correct the inventory"
        )
    return found[0]


def _made(interface: dict[str, Any], links: tuple[Link, ...]) -> Link:
    """The bond or VLAN of that name, there already or not."""
    name = interface["name"]
    for link in links:
        if link.name == name and not link.made:
            raise Impossible(
                f"{name} cannot be made: an interface of this node is called so; choose another name"
            )
    return next((link for link in links if link.name == name), Link(name, "", hardware=False))


def made_text(kind: str, values: dict[str, Any]) -> str:
    """What a bond or VLAN is, in one line; equal for equal ones.

    Args:
        kind: ``bond`` or ``vlan``.
        values: of a bond ``mode``, ``lacp_rate``, ``transmit_hash_policy``; of a VLAN ``id`` and ``link``.
    """
    if kind == "vlan":
        return f"vlan {values['id']} on {values['link']}"
    words = ["bond", values["mode"]]
    if values["mode"] == "802.3ad":
        words.append(f"lacp {values.get('lacp_rate') or LACP_RATE}")
    if values["mode"] != "active-backup":
        words.append(f"hash {values.get('transmit_hash_policy') or HASH_POLICY}")
    return " ".join(words)


def wanted_links(pairs: list[Pair]) -> dict[str, Any]:
    """What the inventory says of links, with kernel names: fields of ``Wanted``, by name."""
    device = {interface["name"]: link.name for interface, link in pairs}
    made: dict[str, str] = {}
    masters = {link.name: "" for interface, link in pairs if interface.get("match")}
    for interface, _ in pairs:
        bond, vlan = interface.get("bond"), interface.get("vlan")
        if bond:
            made[interface["name"]] = made_text("bond", bond)
            masters |= {device[member]: interface["name"] for member in bond["interfaces"]}
        if vlan:
            made[interface["name"]] = made_text("vlan", {**vlan, "link": device[vlan["link"]]})
    return {
        "addresses": {link.name: tuple(interface["addresses"]) for interface, link in pairs},
        "routes": tuple(
            route_words(route, link.name)
            for interface, link in pairs
            for route in interface.get("routes") or ()
        ),
        "mtus": {link.name: interface["mtu"] for interface, link in pairs if interface.get("mtu")},
        "made": made,
        "masters": masters,
        "link_local": frozenset(link.name for interface, link in pairs if interface.get("link_local")),
    }


def route_words(route: dict[str, str], device: str) -> str:
    """A listed route as ``ip route`` arguments; a host is written without the length of its prefix."""
    network = ip_network(route["to"])
    to = str(network.network_address if network.prefixlen == network.max_prefixlen else network)
    return f"-{network.version} {to} via {route['via']} dev {device}"


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
    found += _links(wanted, observed)
    found += _addresses(wanted, observed)
    return found + _routes(wanted, observed)


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


def _links(wanted: Wanted, observed: Observed) -> list[Difference]:
    """Bonds and VLANs that are missing, different or nobody's; cards in the wrong one; sizes of packets."""
    found: list[Difference] = []
    there = {link.name: link for link in observed.links}
    for name, made in wanted.made.items():
        before = there[name].made if name in there else ""
        if before != made:
            found.append(Difference("device", name, before, made))
    found += [
        Difference("device", link.name, link.made, "")
        for link in observed.links
        if link.made and link.name not in wanted.made
    ]
    found += [
        Difference("master", name, there[name].master, master)
        for name, master in wanted.masters.items()
        if name in there and there[name].master != master
    ]
    return found + [
        Difference("mtu", name, str(there[name].mtu), str(mtu))
        for name, mtu in wanted.mtus.items()
        if name in there and there[name].mtu != mtu
    ]


def _addresses(wanted: Wanted, observed: Observed) -> list[Difference]:
    found: list[Difference] = []
    there = {link.name: link.addresses for link in observed.links}
    for name in [*there, *(name for name in wanted.addresses if name not in there)]:
        should = [canonical(address) for address in wanted.addresses.get(name, ())]
        found += [
            Difference("address", f"{name} {address}", "", address)
            for address in should
            if address not in there.get(name, ())
        ]
        found += [
            Difference("surplus", f"{name} {address}", address, "")
            for address in there.get(name, ())
            if address not in should and not (name in wanted.link_local and _is_link_local(address))
        ]
    return found


def _is_link_local(address: str) -> bool:
    return re.match(r"fe[89ab]", address) is not None


def _routes(wanted: Wanted, observed: Observed) -> list[Difference]:
    there = {route: UNASKED.sub("", route) for route in observed.routes}
    found = [
        Difference("listed", route, "", route) for route in wanted.routes if route not in there.values()
    ]
    return found + [
        Difference("route", route, route, "")
        for route, plain in there.items()
        if plain not in wanted.routes
    ]
