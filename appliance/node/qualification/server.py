"""Judges the SSH server: what sshd says would hold, and whether it lets a tunnel out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.definition.partition import instances
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.host_data import HostData

#: What holds for everybody, as sshd itself reads its files.
EFFECTIVE: Final = "PATH=/usr/sbin:/sbin:$PATH sshd -T 2>/dev/null; true"

#: Options that ask the server to listen on the node for the station, and end the login if it does not.
#: Port 9 of the station is discarded (RFC 863): nobody connects.
TUNNEL: Final = (
    *("-o", "ClearAllForwardings=no", "-o", "ExitOnForwardFailure=yes"),
    *("-R", "127.0.0.1:0:127.0.0.1:9"),
)
WAY_BACK: Final = "a login that asks for a tunnel back ends with 255, and the same login without one works"

#: sshd prints the first name it knows for this value.
_SAME: Final = {"prohibit-password": "without-password"}
#: What a value that takes away (``-*cbc*``) leaves must not contain.
_LISTS: Final = ("ciphers", "macs", "kexalgorithms")


def judge_settings(text: str, data: HostData, inventory: Inventory, node: NodeEntry) -> Finding:
    """Every setting that this server knows holds; of lists, none of what was taken away is left."""
    ports = [each.port for each in instances(inventory, node)]
    of_the_site = {
        "PermitOpen": " ".join(f"127.0.0.1:{port} localhost:{port}" for port in ports),
        "PerSourcePenaltyExemptList": ",".join(map(str, inventory.management.operator)),
    }
    found: dict[str, str] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, value.strip())
    wrong, wanted = [], []
    for entry in data.ssh:
        (keyword,) = entry.what
        there = found.get(keyword.lower(), "nothing")
        value = of_the_site.get(keyword, entry.value)
        if entry.newer and there == "nothing":
            continue
        wanted.append(f"{keyword} {value}")
        if keyword.lower() in _LISTS:
            bad = [part.strip("*") for part in value.removeprefix("-").split(",")]
            left = [name for name in there.split(",") if any(part in name for part in bad)]
            wrong += [f"{keyword} allows {name}" for name in left]
            wrong += [f"{keyword} is unknown"] if there == "nothing" else []
        elif there.lower() != _SAME.get(value, value).lower():
            wrong.append(f"{keyword} {there}, wanted {value}")
    return Finding(not wrong, lines(wrong, otherwise=f"all {len(wanted)} hold"), "; ".join(wanted))


def judge_way_back(plain: int, tunnel: int) -> Finding:
    """``plain`` and ``tunnel``: exit statuses of ssh without and with a tunnel asked for; -1: no answer."""
    found = f"exit status {plain} without, {tunnel} with a tunnel"
    return Finding(plain == 0 and tunnel == 255, found, WAY_BACK)  # noqa: PLR2004 - ssh's own failure
