"""The operator's side of a lab: which addresses are in use there, and the bridge the nodes hang on.

All functions act on the network namespace of the calling thread; see ``namespaces.joined``.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import LabFailed

if TYPE_CHECKING:
    from appliance.lab.plan import Lab

_SYSCTL = Path("/proc/sys/net")


def used_networks() -> list[str]:
    """Networks that have an address or a route here, in CIDR form; default routes do not count."""
    addresses = json.loads(run_ip("-json", "address", "show"))
    routes = [
        route
        for family in ("-4", "-6")
        for route in json.loads(run_ip("-json", family, "route", "show", "table", "all") or "[]")
    ]
    return networks_in(addresses, routes)


def networks_in(addresses: list[dict[str, Any]], routes: list[dict[str, Any]]) -> list[str]:
    """Networks in the JSON output of ``ip address`` and ``ip route``.  Pure."""
    found = [
        f"{info['local']}/{info['prefixlen']}"
        for link in addresses
        for info in link.get("addr_info", ())
        if "local" in info
    ]
    found += [route["dst"] for route in routes if route["dst"] != "default"]
    return found


def lay_bridge(lab: Lab) -> None:
    """Make the lab's bridge with the operator's addresses; nothing is forwarded from it.

    Raises:
        LabFailed: the kernel refuses, or IPv6 is switched off here.
    """
    if not (_SYSCTL / "ipv6").is_dir():
        raise LabFailed(
            "this machine has no IPv6, and a rehearsal without it would prove half",
            found=f"no {_SYSCTL / 'ipv6'}",
            wanted="IPv6 in the kernel",
            hint="boot without ipv6.disable=1",
        )
    # The address is given in the same call that makes the bridge: it marks the bridge as this lab's.
    run_ip("link", "add", "name", lab.bridge, "address", lab.bridge_mac, "type", "bridge")
    for family in ("ipv4", "ipv6"):
        (_SYSCTL / family / "conf" / lab.bridge / "forwarding").write_text("0", "ascii")
    (_SYSCTL / "ipv6/conf" / lab.bridge / "disable_ipv6").write_text("0", "ascii")
    (_SYSCTL / "ipv6/conf" / lab.bridge / "accept_ra").write_text("0", "ascii")
    lines = [f"address add {address}/24 dev {lab.bridge}" for address in (lab.operator[0], lab.foreign[0])]
    lines += [
        f"address add {address}/64 dev {lab.bridge} nodad" for address in (lab.operator[1], lab.foreign[1])
    ]
    lines.append(f"link set {lab.bridge} up")
    run_ip("-batch", "-", text="\n".join(lines) + "\n")


def remove_bridge(lab: Lab) -> None:
    """Remove the lab's bridge and what is plugged into it; a stranger of the same name is left alone."""
    for link in links_to_remove(json.loads(run_ip("-json", "link", "show")), lab):
        # The kernel takes a cable away by itself some time after its node's end is gone, so this one
        # may have gone in between; that it is gone is all that is wanted.
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    left = links_to_remove(json.loads(run_ip("-json", "link", "show")), lab)
    if left:
        raise LabFailed(
            "interfaces of the lab could not be removed",
            found=", ".join(left),
            hint="ip link delete, for each of them",
        )


def links_to_remove(links: list[dict[str, Any]], lab: Lab) -> list[str]:
    """Names of the lab's interfaces in the JSON output of ``ip link``: cables, then the bridge.  Pure.

    The bridge is recognised by name and address, cables by name and by the bridge they are in (or by
    being in none: half-made).  Without the bridge, cables are recognised by their name alone if they
    are in none.
    """
    by_name = {link["ifname"]: link for link in links}
    cables = [
        node.link
        for node in lab.nodes
        if node.link in by_name and by_name[node.link].get("master", lab.bridge) == lab.bridge
    ]
    bridge = by_name.get(lab.bridge)
    if bridge is None:
        return cables
    if bridge["address"] != lab.bridge_mac:
        return []
    return [*cables, lab.bridge]


def run_ip(*arguments: str, text: str | None = None) -> str:
    """Run ``ip`` here and return its output.

    Raises:
        LabFailed: it fails; the message carries what it said.
    """
    done = subprocess.run(["ip", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabFailed(
            f"ip {' '.join(arguments)} failed",
            found=done.stderr.strip() or f"exit code {done.returncode}",
            hint="the kernel needs the modules bridge and veth; see `modprobe bridge veth`",
        )
    return done.stdout
