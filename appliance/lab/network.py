"""The operator's side of a lab: which addresses are in use there, and the bridges the nodes hang on.

All functions act on the network namespace of the calling thread; see ``namespaces.joined``.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.errors import LabFailed
from appliance.lab.segments import MANAGEMENT

if TYPE_CHECKING:
    from appliance.lab.plan import Lab
    from appliance.lab.segments import Nic, Segment

_SYSCTL = Path("/proc/sys/net")
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAMILIES = ("-4", "-6")
# After the rule for this machine's own addresses (0), before all other routing (32766).
_PRIORITY = 77


def used_networks() -> list[str]:
    """Networks that have an address or a route here, in CIDR form; default routes do not count."""
    addresses = json.loads(run_ip("-json", "address", "show"))
    routes = [
        route
        for family in _FAMILIES
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


def lay_bridges(lab: Lab) -> None:
    """Make the lab's bridges with the operator's addresses; nothing is forwarded from them.

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
    for segment in lab.segments:
        _lay(segment)


def _lay(segment: Segment) -> None:
    bridge = segment.bridge
    # The address is given in the same call that makes the bridge: it marks the bridge as this lab's.
    run_ip("link", "add", "name", bridge, "address", segment.bridge_mac, "type", "bridge")
    # What comes from the segment and is not for the operator ends here, also where this machine is a
    # router: the forwarding switch of one interface is IPv4's only, and other programs turn it.
    for family in _FAMILIES:
        run_ip(family, "rule", "add", "priority", str(_PRIORITY), "iif", bridge, "blackhole")
    (_SYSCTL / "ipv6/conf" / bridge / "disable_ipv6").write_text("0", "ascii")
    (_SYSCTL / "ipv6/conf" / bridge / "accept_ra").write_text("0", "ascii")
    lines = [
        f"address add {segment.operator[0]}/24 dev {bridge}",
        f"address add {segment.operator[1]}/64 dev {bridge} nodad",
    ]
    if segment.purpose == MANAGEMENT:
        # The foreign address is deprecated: nothing leaves from it that does not ask to (RFC 6724, rule 3).
        lines += [
            f"address add {segment.foreign[0]}/24 dev {bridge}",
            f"address add {segment.foreign[1]}/64 dev {bridge} nodad preferred_lft 0",
        ]
    lines.append(f"link set {bridge} up")
    run_ip("-batch", "-", text="\n".join(lines) + "\n")


def remove_bridges(lab: Lab) -> None:
    """Remove the lab's bridges and all that goes with them; strangers of the same name are left alone."""
    for segment in lab.segments:
        _remove(lab, segment)


def _remove(lab: Lab, segment: Segment) -> None:
    links = json.loads(run_ip("-json", "link", "show"))
    if is_strangers(links, segment):
        return
    for family in _FAMILIES:
        for rule in json.loads(run_ip("-json", family, "rule", "show")):
            if (rule["priority"], rule.get("iif")) == (_PRIORITY, segment.bridge):
                run_ip(family, "rule", "delete", "priority", str(_PRIORITY), "iif", segment.bridge)
    for link in links_of(links, lab, segment):
        # The kernel takes a cable away by itself some time after its node's end is gone, so this one
        # may have gone in between; that it is gone is all that is wanted.
        subprocess.run(["ip", "link", "delete", link], check=False, capture_output=True)
    left = links_of(json.loads(run_ip("-json", "link", "show")), lab, segment)
    if left:
        raise LabFailed(
            "interfaces of the lab could not be removed",
            found=", ".join(left),
            hint="ip link delete, for each of them",
        )


def is_strangers(links: list[dict[str, Any]], segment: Segment) -> bool:
    """Whether the bridge of the segment's name is another's, in the JSON output of ``ip link``.  Pure."""
    return any(link["ifname"] == segment.bridge and link["address"] != segment.bridge_mac for link in links)


def links_of(links: list[dict[str, Any]], lab: Lab, segment: Segment) -> list[str]:
    """Names of a segment's interfaces in the JSON output of ``ip link``: cables, then the bridge.  Pure.

    A cable that somebody plugged into another bridge is not the lab's any more.
    """
    bridge = segment.bridge
    masters = {link["ifname"]: link.get("master", bridge) for link in links}
    cables = [nic.link for node in lab.nodes for nic in node.nics if nic.segment == segment.purpose]
    names = [link for link in cables if masters.get(link) == bridge]
    return [*names, bridge] if bridge in masters else names


def plug(nic: Nic) -> None:
    """Put the operator's end of a cable into its bridge, and switch it on.

    A bridge takes on the least size of its cables; until there is one, it has the usual size.
    """
    lines = (f"mtu {nic.mtu}", f"master {nic.bridge}", "up")
    run_ip("-batch", "-", text="".join(f"link set {nic.link} {line}\n" for line in lines))


def run_ip(*arguments: str, text: str | None = None) -> str:
    """Run ``ip`` here and return its output.

    An interrupt that came while a process is being started would leave it to itself, and it would make its
    interface after all was taken back.  So interrupts wait for it, some milliseconds.

    Raises:
        LabFailed: it fails; the message carries what it said.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        done = subprocess.run(["ip", *arguments], input=text, capture_output=True, text=True, check=False)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    if done.returncode != 0:
        raise LabFailed(
            f"ip {' '.join(arguments)} failed",
            found=done.stderr.strip() or f"exit code {done.returncode}",
            hint="the kernel needs the modules bridge, veth and tun; see `modprobe -a bridge veth tun`",
        )
    return done.stdout
