"""The preflight checks of a node's network: can it be had as it is wanted, and does anybody fight it?

Facts come from ``remote/facts.py``.  Nothing on the node has been changed yet; what would fail later, when
the network is half new, is to be found here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from appliance.definition.document import read_document
from appliance.errors import InventoryInvalid
from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.bundle.manifest import Manifest
    from appliance.definition.document import Document, Loc
    from appliance.definition.inventory import Interface, Inventory, NodeEntry

#: netplan 0.106 is the first to match by permanent MAC address: a card in a bond bears the bond's.
OLDEST_NETPLAN: Final = (0, 106)
#: Names the kernel gives in order of discovery; two cards may change them at any start.
_NUMBERED: Final = re.compile(r"(eth|ib|usb|wlan|wwan)[0-9]+")
#: Folders of netplan whose files belong to packages; those elsewhere are put aside by network_isolation.
_VENDORS: Final = ("/lib/netplan/", "/usr/lib/netplan/")
#: Keys of a netplan file that would give a node a way out, or an address that nobody declared.
_WAYS: Final = frozenset(
    {"gateway4", "gateway6", "routes", "nameservers", "dhcp4", "dhcp6", "accept-ra", "addresses"}
)


def network_checks(
    node: NodeEntry, facts: Mapping[str, Any], manifest: Manifest, inventory: Inventory
) -> Iterator[Check]:
    """Everything that is to be known of a node's network before it is changed."""
    yield from _interfaces(node, facts["interfaces"], inventory)
    yield from _made(node, facts, inventory)
    yield from _programs(facts["packages"], manifest)
    yield from _netplan_files(facts["netplan"])
    yield _filters(facts["filter_units"])
    yield _bmc(facts["bmc"])


def _place(node: NodeEntry, interface: Interface, inventory: Inventory, *more: str) -> str:
    loc: Loc = ("nodes", node.name, interface.section, interface.name, *more)
    return str(inventory.where(loc) or "")


def _interfaces(
    node: NodeEntry, present: Sequence[Mapping[str, Any]], inventory: Inventory
) -> Iterator[Check]:
    """Each card of the inventory is there, once, and can carry what it is to carry."""
    known = ", ".join(_card_text(entry) for entry in present if entry["name"] != "lo" and not entry["made"])
    hits: dict[str, Mapping[str, Any]] = {}
    for interface in node.interfaces:
        if interface.section != "interfaces":
            continue
        match = interface.match.as_dict()
        found = [
            entry
            for entry in present
            if not entry["made"] and all(entry[key] == value for key, value in match.items())
        ]
        # A bridge borrows the address of its card; the card is meant.
        found = [entry for entry in found if entry["hardware"]] or found
        yield Check(
            f"interface-{interface.name}",
            len(found) == 1,
            known or "no interfaces",
            f"one interface with {interface.match}",
            "correct the inventory's match, or plug in the card",
            where=_place(node, interface, inventory, "match"),
        )
        if len(found) == 1:
            hits[interface.name] = found[0]
    yield from _packet_sizes(node, hits, inventory)
    moving = sorted(
        entry["name"] for entry in hits.values() if entry["hardware"] and _NUMBERED.fullmatch(entry["name"])
    )
    yield Check(
        "interface-names",
        len(moving) < 2,  # noqa: PLR2004 - one alone has nothing to change places with
        ", ".join(moving) or "no name in order of discovery",
        "names by firmware, slot or place: the firewall's rules name interfaces",
        "remove net.ifnames=0 from the kernel's command line and restart the node",
    )


def _card_text(entry: Mapping[str, Any]) -> str:
    return " ".join(str(entry[key]) for key in ("name", "mac", "pci") if entry[key])


def _packet_sizes(
    node: NodeEntry, hits: Mapping[str, Mapping[str, Any]], inventory: Inventory
) -> Iterator[Check]:
    for interface in node.interfaces:
        cards = interface.bond.interfaces if interface.bond else (interface.name,)
        limits = {name: hits[name]["max_mtu"] for name in cards if name in hits and hits[name]["max_mtu"]}
        if interface.mtu and limits:
            yield Check(
                f"mtu-{interface.name}",
                interface.mtu <= min(limits.values()),
                ", ".join(f"{name} carries at most {limit}" for name, limit in limits.items()),
                f"{interface.mtu} bytes",
                "lower the mtu in the inventory, or use another card",
                where=_place(node, interface, inventory, "mtu"),
            )


def _made(node: NodeEntry, facts: Mapping[str, Any], inventory: Inventory) -> Iterator[Check]:
    """The kernel can make bonds and VLANs, and no card has the name that one is to get."""
    for interface in node.interfaces:
        kind = {"bonds": "bond", "vlans": "vlan"}.get(interface.section)
        if kind is None:
            continue
        taken = [
            entry["name"]
            for entry in facts["interfaces"]
            if entry["name"] == interface.name and not entry["made"]
        ]
        able = facts["modules"][kind]
        yield Check(
            f"{kind}-{interface.name}",
            able and not taken,
            "a card is called so" if taken else "possible" if able else f"the kernel cannot make a {kind}",
            f"a {kind} called {interface.name}",
            "choose another name"
            if taken
            else "install the distribution's own kernel with its modules (bonding, 8021q)",
            where=_place(node, interface, inventory),
        )


def _programs(installed: Mapping[str, str], manifest: Manifest) -> Iterator[Check]:
    """The firewall's programs and a netplan that is new enough are in the bundle or on the node."""
    brought = {
        file.name: file.version
        for component in manifest.components.values()
        if component.kind == "debian"
        for file in component.files
    }
    for name, oldest in (("ufw", (0,)), ("nftables", (0,)), ("netplan.io", OLDEST_NETPLAN)):
        versions = {
            place: version
            for place, version in (("bundle", brought.get(name)), ("node", installed.get(name)))
            if version
        }
        newest = max((_version(version) for version in versions.values()), default=None)
        needed = ".".join(map(str, oldest))
        yield Check(
            f"package-{name.partition('.')[0]}",
            newest is not None and newest >= oldest,
            ", ".join(f"{version} ({place})" for place, version in versions.items())
            or f"neither in the bundle nor on the node: {name}",
            f"{name} {needed} or newer" if oldest != (0,) else name,
            f"name {name} among the packages of a debian component, and build the bundle again",
        )


def _version(text: str) -> tuple[int, ...]:
    """The upstream number of a Debian version: of ``1:0.106.1-7ubuntu0`` it is 0.106.1."""
    upstream = text.partition(":")[2] or text
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", upstream)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


def _netplan_files(files: Mapping[str, str]) -> Iterator[Check]:
    """Files of others: those of packages must hold no way out; the rest is put aside, and told of here."""
    refused: dict[str, str] = {}
    taken: list[str] = []
    for path, text in files.items():
        if path == "/etc/netplan/90-appliance.yaml":
            continue
        ways = _ways_out(path, text)
        if path.startswith(_VENDORS):
            refused |= ways
        else:
            taken += [
                f"{path} ({'; '.join(f'{way} at {at}' for at, way in ways.items())})" if ways else path
            ]
    yield Check(
        "netplan-of-packages",
        not refused,
        "; ".join(f"{way} at {at}" for at, way in refused.items()) or "no file with a way out",
        f"no address, gateway, route, DNS or DHCP in {' and '.join(_VENDORS)}, which are packages' and "
        "are not put aside",
        "remove the package that brings the file",
        where=next(iter(refused), ""),
    )
    yield Check(
        "netplan-taken-over",
        not taken,
        "; ".join(taken) or "none",
        "no netplan files of others",
        "nothing: they are put aside with every gateway, DNS server and DHCP that they bring, below "
        "/var/lib/appliance/replaced, and come back if the change is not confirmed",
        level="information",
    )


def _ways_out(path: str, text: str) -> dict[str, str]:
    """What a netplan file would bring, by the key's place; one that cannot be read may bring anything."""
    try:
        document = read_document(text, path, InventoryInvalid)
    except InventoryInvalid as fault:
        return {str(fault.where or path): f"{fault.message}"}
    return dict(_walk(document, document.values, ()))


def _walk(document: Document, values: object, loc: Loc) -> Iterator[tuple[str, str]]:
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield from _walk(document, value, (*loc, index))
    if isinstance(values, dict):
        for key, value in values.items():
            if key in _WAYS and value not in (False, [], None, "false", "no"):
                yield str(document.where_key((*loc, key))), key
            else:
                yield from _walk(document, value, (*loc, key))


def _filters(units: Mapping[str, str]) -> Check:
    return Check(
        "packet-filters",
        not units,
        "; ".join(f"{unit} is {' and '.join(state.split())}" for unit, state in units.items())
        or "none besides ufw",
        "no service that loads packet filter rules of its own, now or at the next start",
        "look at its rules first; then: "
        + "; ".join(f"systemctl disable --now {unit}" for unit in units or ["UNIT"]),
    )


def _bmc(ways: Sequence[str]) -> Check:
    """The controller below the host has a network of its own, which no firewall of the host sees."""
    return Check(
        "bmc",
        not ways,
        ", ".join(ways) or "no way to a BMC seen",
        "known: where there is a way, root can talk to the BMC, and that has a network of its own",
        "put the BMC's own port on the management network or leave its cable out; set its password",
        level="information",
    )
