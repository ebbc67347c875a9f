"""The netplan file of an isolated node, in netplan's reference's terms: values in, text out.

Static addresses, listed routes, and every automatism off.  ``ignore-carrier`` gives a port its addresses
with the cable out; ``optional`` lets the node boot then.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ansible.module_utils.appliance_network_plan import canonical

if TYPE_CHECKING:
    from ansible.module_utils.appliance_network_plan import Link, Pair

#: Milliseconds between looks at a bond's cables; netplan leaves them unwatched if nothing is said.
MONITOR = 100

#: Names the kernel gives in order of discovery; udev could not keep two of them apart by renaming.
_NUMBERED = re.compile(r"(eth|ib|usb|wlan|wwan)[0-9]+")


def netplan_text(pairs: list[Pair]) -> str:
    """The whole file for the interfaces of the inventory, each with the link found for it."""
    lines = [
        "# Written by the role network_isolation. Static addresses, listed routes, no name server.",
        "network:",
        "  version: 2",
        "  renderer: networkd",
        "  ethernets:",
    ]
    for interface, link in pairs:
        if interface.get("match"):
            lines += [f"    {interface['name']}:", *_card(link), *_common(interface)]
    for section, key, own in (("bonds", "bond", _bond), ("vlans", "vlan", _vlan)):
        chosen = [interface for interface, _ in pairs if interface.get(key)]
        lines += [f"  {section}:"] if chosen else []
        for interface in chosen:
            lines += [f"    {interface['name']}:", *own(interface[key]), *_common(interface)]
    return "\n".join(lines) + "\n"


def _card(link: Link) -> list[str]:
    """How systemd-networkd knows a card again at the next start.

    By its permanent MAC address, whatever the inventory matched, and its name is tied to that: rules of the
    firewall name devices, and a name given by slot or order may be another card's then.  ``set-name`` is
    needed for another reason too: with ``mtu``, netplan writes a .link file, and udev would leave a card
    that such a file matches without its predictable name.  A device without a MAC address of its own (a
    veth of a practice node) is matched by name, because systemd-networkd compares netplan's ``macaddress``
    with the permanent address.
    """
    if not link.hardware:
        return ["      match:", f'        name: "{link.name}"']
    found = ["      match:", f'        macaddress: "{link.mac}"']
    return found if _NUMBERED.fullmatch(link.name) else [*found, f'      set-name: "{link.name}"']


def _bond(bond: dict[str, Any]) -> list[str]:
    lines = ["      interfaces:", *(f"        - {name}" for name in bond["interfaces"])]
    lines += ["      parameters:", f'        mode: "{bond["mode"]}"']
    for key in ("lacp_rate", "transmit_hash_policy"):
        if bond.get(key):
            lines.append(f'        {key.replace("_", "-")}: "{bond[key]}"')
    return [*lines, f"        mii-monitor-interval: {MONITOR}"]


def _vlan(vlan: dict[str, Any]) -> list[str]:
    return [f"      id: {vlan['id']}", f"      link: {vlan['link']}"]


def _common(interface: dict[str, Any]) -> list[str]:
    """Nothing automatic; then what was asked for."""
    lines = [
        "      dhcp4: false",
        "      dhcp6: false",
        "      accept-ra: false",
        f"      link-local: {'[ipv6]' if interface.get('link_local') else '[]'}",
        "      optional: true",
        "      ignore-carrier: true",
    ]
    if interface.get("mtu"):
        lines.append(f"      mtu: {interface['mtu']}")
    if interface["addresses"]:
        lines += [
            "      addresses:",
            *(f'        - "{canonical(each)}"' for each in interface["addresses"]),
        ]
    if interface.get("routes"):
        lines.append("      routes:")
        for route in interface["routes"]:
            lines += [f'        - to: "{route["to"]}"', f'          via: "{route["via"]}"']
    return lines
