"""Judges interfaces: which is which, and whether bonds, VLANs and packet sizes are as declared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.definition.inventory import Interface, NodeEntry

Link = dict[str, Any]

#: The device behind each interface, ``name path`` a line; PCI addresses are in the paths.
CARDS: Final = 'for each in /sys/class/net/*; do echo "${each##*/} $(readlink -f "$each/device")"; done'


def cards(listing: str) -> dict[str, str]:
    """PCI addresses by name, from ``CARDS``; what is plugged into a USB controller is not a card."""
    found = {}
    for line in listing.splitlines():
        name, _, path = line.partition(" ")
        functions = re.findall(r"/([0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7])(?=/|$)", path)
        if functions and "/usb" not in path:
            found[name] = functions[-1]
    return found


def find_link(links: Sequence[Link], interface: Interface, pci: Mapping[str, str]) -> Link | None:
    """The link that an interface of the inventory is; by its permanent address, as a bond has another."""
    match = interface.match
    if interface.section != "interfaces":
        found = [
            link for link in links if link["ifname"] == interface.name and _kind(link) in {"bond", "vlan"}
        ]
    elif match.mac:
        found = [
            link
            for link in links
            if match.mac == (link.get("permaddr") or link.get("address"))
            and link.get("link_type") == "ether"
            and not _kind(link)
        ]
    elif match.pci:
        found = [link for link in links if pci.get(link["ifname"]) == match.pci]
    else:
        found = [link for link in links if link["ifname"] == match.name]
    return found[0] if len(found) == 1 else None


def _kind(link: Link) -> str:
    """``bond``, ``vlan`` or ``bridge`` for what borrows the address of a card; empty for all others."""
    kind = str(link.get("linkinfo", {}).get("info_kind", ""))
    return kind if kind in {"bond", "vlan", "bridge", "macvlan"} else ""


def judge_links(links: Sequence[Link], node: NodeEntry, pci: Mapping[str, str]) -> Finding:
    """Bonds of the cards and in the mode of the inventory, VLANs by its numbers, packets of its sizes."""
    wrong: list[str] = []
    there = {each.name: find_link(links, each, pci) for each in node.interfaces}
    for interface in node.interfaces:
        link = there[interface.name]
        if link is None:
            wrong.append(f"no interface {interface.match or interface.name} ({interface.name})")
            continue
        wrong += _differences(interface, link, there)
    declared = {each.name for each in node.interfaces if each.section != "interfaces"}
    wrong += [
        f"{link['ifname']}: a {_kind(link)} that is not in the inventory"
        for link in links
        if _kind(link) in {"bond", "vlan"} and link["ifname"] not in declared
    ]
    wanted = "; ".join(_wanted(node)) or "no bond and no VLAN"
    return Finding(not wrong, lines(wrong, otherwise=wanted), wanted)


def _differences(interface: Interface, link: Link, there: Mapping[str, Link | None]) -> Iterator[str]:
    name, data = link["ifname"], link.get("linkinfo", {}).get("info_data", {})
    if interface.mtu and link.get("mtu") != interface.mtu:
        yield f"{name}: packets of {link.get('mtu')} bytes, not {interface.mtu}"
    if interface.bond:
        if data.get("mode") != interface.bond.mode:
            yield f"{name}: mode {data.get('mode')}, not {interface.bond.mode}"
        for member in interface.bond.interfaces:
            card = there[member]
            if card and card.get("master") != name:
                yield f"{card['ifname']}: not in the bond {name}"
    if interface.vlan:
        below = there[interface.vlan.link]
        if (data.get("id"), link.get("link")) != (interface.vlan.id, below and below["ifname"]):
            wanted = f"{interface.vlan.id} on {interface.vlan.link}"
            yield f"{name}: VLAN {data.get('id')} on {link.get('link')}, not {wanted}"


def _wanted(node: NodeEntry) -> Iterator[str]:
    for each in node.interfaces:
        size = f", {each.mtu} bytes" if each.mtu else ""
        if each.bond:
            yield f"{each.name}: bond of {', '.join(each.bond.interfaces)}, {each.bond.mode}{size}"
        elif each.vlan:
            yield f"{each.name}: VLAN {each.vlan.id} on {each.vlan.link}{size}"
        elif each.mtu:
            yield f"{each.name}: {each.mtu} bytes"
