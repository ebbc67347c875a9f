"""Judges addresses, routes and name servers: is there anywhere to go, and did anybody else decide it?"""

from __future__ import annotations

import json
import re
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

from appliance.node.qualification.finding import Finding, lines
from appliance.node.qualification.links import find_link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.definition.inventory import Interface, Network, NodeEntry

#: Everything needed about addresses, as JSON.
ADDRESSES = "ip -json -details address show"
#: Both families and all tables; two JSON lists, one a line.
ROUTES = "ip -json -4 route show table all; echo; ip -json -6 route show table all"

#: Route types that carry nothing off the node (ip-route(8)).
_HARMLESS = {"local", "broadcast", "multicast", "anycast", "unreachable", "blackhole", "prohibit", "throw"}


def json_lists(text: str) -> list[dict[str, Any]]:
    """The entries of several JSON lists printed one after another; ip prints nothing for an empty one."""
    decoder, entries, at = json.JSONDecoder(), [], 0
    while match := re.compile(r"\s*(?=\[)").match(text, at):
        found, at = decoder.raw_decode(text, match.end())
        entries += [each for each in found if each]
    return entries


def judge_routes(listing: str, node: NodeEntry) -> Finding:
    """Every route must end on the node's own wire, but for those that are listed; these are there."""
    own = [each.network for interface in node.interfaces for each in interface.addresses]
    listed = {
        (str(route.to), str(route.via)): f"{route.to} via {route.via}"
        for interface in node.interfaces
        for route in interface.routes
    }
    wrong, seen = [], set()
    for route in json_lists(listing):
        if route.get("type", "unicast") in _HARMLESS:
            continue
        away = "gateway" in route or "via" in route or "nexthops" in route
        key = _listed_as(route)
        if key in listed:
            seen.add(key)
        elif away or not _on_the_wire(route["dst"], own):
            wrong.append(_route_text(route))
    wrong += [f"{text} is missing" for key, text in listed.items() if key not in seen]
    wanted = "routes to " + ", ".join(str(each) for each in own) + " without a gateway"
    wanted += "".join(f", {text}" for text in listed.values()) + ", and no other"
    nothing = "none but those of the node's own addresses" + ", and those that are listed" * bool(listed)
    return Finding(not wrong, lines(wrong, otherwise=nothing), wanted)


def _listed_as(route: dict[str, Any]) -> tuple[str, str] | None:
    """Destination and router of a route of the main table, spelt as in the inventory, or None."""
    if route["dst"] == "default" or "gateway" not in route or route.get("table", "main") != "main":
        return None
    return str(ip_network(route["dst"])), str(ip_address(route["gateway"]))


def _on_the_wire(destination: str, own: Iterable[Network]) -> bool:
    if destination == "default":
        return False
    network = ip_network(destination)
    if network.is_link_local or network.is_multicast or network.is_loopback:
        return True
    return any(network.version == each.version and network.subnet_of(each) for each in own)  # type: ignore[arg-type]


def _route_text(route: dict[str, Any]) -> str:
    words = [route["dst"]]
    if "gateway" in route:
        words += ["via", route["gateway"]]
    elif "via" in route:
        words += ["via", str(route["via"].get("host"))]
    elif "nexthops" in route:
        words += ["via", ", ".join(str(hop.get("gateway", hop.get("dev"))) for hop in route["nexthops"])]
    for word, key in (("dev", "dev"), ("table", "table"), ("proto", "protocol")):
        if key in route:
            words += [word, str(route[key])]
    return " ".join(words)


def judge_addresses(listing: str, node: NodeEntry, pci: Mapping[str, str] | None = None) -> Finding:
    """Exactly the inventory's addresses, on the inventory's interfaces, all of them static.

    ``pci``: PCI addresses by interface, for cards that the inventory matches so.
    """
    links = json_lists(listing)
    wrong, known = [], {}
    for interface in node.interfaces:
        link = find_link(links, interface, pci or {})
        if link is None:
            wrong.append(f"no interface {_words(interface)} ({interface.name})")
            continue
        known[link["ifname"]] = interface
        wanted = {str(each) for each in interface.addresses}
        found = {each for each, _ in _global(link)}
        wrong += [f"{link['ifname']}: {each} is missing" for each in sorted(wanted - found)]
        wrong += [f"{link['ifname']}: {each} is not in the inventory" for each in sorted(found - wanted)]
    for link in links:
        name = link["ifname"]
        if name not in known:
            wrong += [f"{name}: {each} is not in the inventory" for each, _ in _global(link)]
        wrong += [f"{name}: {each} was given by the network" for each, dynamic in _global(link) if dynamic]
        if not (name in known and known[name].link_local):
            wrong += [
                f"{name}: {each} is link-local, and nobody asked for it" for each in _link_local(link)
            ]
    wanted_text = ", ".join(
        f"{interface.name}: {each}" for interface in node.interfaces for each in interface.addresses
    )
    return Finding(not wrong, lines(wrong, otherwise=wanted_text), f"{wanted_text}; nothing else")


def _words(interface: Interface) -> str:
    return next(iter(interface.match.as_dict().values()), interface.section.removesuffix("s"))


def _link_local(link: dict[str, Any]) -> list[str]:
    return [
        f"{each['local']}/{each['prefixlen']}"
        for each in link.get("addr_info", [])
        if ip_address(each["local"]).is_link_local
    ]


def _global(link: dict[str, Any]) -> list[tuple[str, bool]]:
    """Addresses that reach further than the link, and whether something else gave them."""
    return [
        (f"{each['local']}/{each['prefixlen']}", bool(each.get("dynamic")))
        for each in link.get("addr_info", [])
        if not (ip_address(each["local"]).is_link_local or ip_address(each["local"]).is_loopback)
    ]


#: How each interface may be configured from the network, ``name value`` a line, then leases and clients.
AUTOCONFIGURATION = """
for each in /sys/class/net/*; do
  name=${each##*/}; [ "$name" = lo ] && continue
  index=$(cat "$each/ifindex")
  file=$(sed -n 's/^NETWORK_FILE=//p' "/run/systemd/netif/links/$index" 2>/dev/null)
  ra=$(cat "/proc/sys/net/ipv6/conf/$name/accept_ra" 2>/dev/null || echo none)
  networkd=$([ -n "$file" ] && sed -n 's/^IPv6AcceptRA=//p' "$file" 2>/dev/null | tail -n 1)
  dhcp=$([ -n "$file" ] && sed -n 's/^DHCP=//p' "$file" 2>/dev/null | tail -n 1)
  echo "interface $name kernel-ra=$ra managed=${file:+yes} networkd-ra=$networkd dhcp=$dhcp"
done
for each in /run/systemd/netif/leases/* /var/lib/dhcp/*.leases /var/lib/dhcpcd/*.lease; do
  [ -s "$each" ] && echo "lease $each"
done
for each in /proc/[0-9]*/comm; do
  read -r name < "$each" 2>/dev/null || continue
  case $name in dhclient|dhcpcd|udhcpc|NetworkManager|connmand|rdnssd) echo "client $name";; esac
done
true
"""


def judge_autoconfiguration(listing: str) -> Finding:
    """No DHCP, no router advertisements: nobody on the wire can give the node an address or a route."""
    wrong = []
    for line in listing.splitlines():
        kind, _, rest = line.partition(" ")
        if kind != "interface":
            wrong.append(f"{kind}: {rest}")
            continue
        name, *pairs = rest.split()
        values = dict(pair.split("=", 1) for pair in pairs)
        if values["kernel-ra"] not in {"0", "none"}:
            wrong.append(
                f"{name}: the kernel accepts router advertisements (accept_ra={values['kernel-ra']})"
            )
        if values["managed"] and values["networkd-ra"].lower() not in {"no", "false", "0", "off"}:
            wrong.append(f"{name}: systemd-networkd accepts router advertisements (IPv6AcceptRA not off)")
        if values["dhcp"].lower() not in {"", "no", "false", "0", "off"}:
            wrong.append(f"{name}: DHCP={values['dhcp']}")
    found = lines(wrong, otherwise="off on every interface; no lease, no client")
    return Finding(not wrong, found, "no DHCP and no router advertisements, no lease and no client program")


#: Where programs look for name servers.
NAME_SERVERS = "cat /etc/resolv.conf /run/systemd/resolve/resolv.conf 2>/dev/null; true"


def judge_name_servers(text: str) -> Finding:
    """No name server but the node itself."""
    servers = re.findall(r"^\s*nameserver\s+(\S+)", text, flags=re.MULTILINE)
    wrong = sorted({each for each in servers if not ip_address(each.partition("%")[0]).is_loopback})
    return Finding(not wrong, lines(wrong, otherwise="none"), "no name server in resolv.conf")


FORWARDING = "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding 2>/dev/null; true"


def judge_forwarding(text: str) -> Finding:
    """The node passes no packets on for others."""
    values = dict(re.findall(r"^(\S+) = (\S+)$", text, flags=re.MULTILINE))
    on = [f"{name} = {value}" for name, value in values.items() if value != "0"]
    if "net.ipv4.ip_forward" not in values:
        on.append("net.ipv4.ip_forward cannot be read")
    return Finding(
        not on, lines(on, otherwise="off for IPv4 and IPv6"), "net.ipv4.ip_forward and IPv6 forwarding 0"
    )
