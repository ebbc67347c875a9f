"""Reads what stands around the line's card, and judges it.

What the kernel holds is read from the kernel: nothing here believes a file of ours.  Digests are of that,
without what counts and what is numbered anew at every start, so that the same walls have the same digests.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from appliance.export.line.commands import inside
from appliance.export.line.ruleset import SETTINGS, TABLE
from appliance.export.line.settings import DEVICE, NAMESPACE
from appliance.export.line.xdp import tags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.export.line.settings import Line

#: What changes without a rule being another one (libnftables-json(5)).
_PASSING: Final = frozenset({"handle", "packets", "bytes", "index"})
#: How the kernel says where a program is attached (linux/if_link.h, XDP_ATTACHED_*).
_MODES: Final = {1: "native", 2: "generic", 3: "hardware", 4: "several"}
#: One process for all of them, as this is asked every two seconds; those that are not there are left out.
_READ_SETTINGS: Final = "cd /proc/sys/net && grep -sH '' {} || true"


@dataclass(frozen=True, slots=True)
class Walls:
    """What stands.

    Args:
        rules: the kernel's rules, as nft lists them, without what passes.
        counted: packets by chain that these rules dropped or let out, in their order.
        xdp: ``mode`` and ``tag`` of the XDP program; empty where there is none.
        settings: of the kernel, by path below ``/proc/sys/net``.
        flags: of the card (``UP``, ``NOARP`` …).
        addresses: of the whole namespace, with prefix lengths.
        routes: of the whole namespace, but those that the kernel keeps of local addresses.
        neighbours: ``address MAC state``.
        received: frames that came in at the card, as its driver counts them.
    """

    rules: tuple[str, ...]
    counted: Mapping[str, tuple[int, ...]]
    xdp: Mapping[str, str]
    settings: Mapping[str, str]
    flags: frozenset[str]
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    neighbours: tuple[str, ...]
    received: int

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each wall, for checkpoints."""
        walls: dict[str, object] = {
            "ruleset": self.rules,
            "xdp": dict(self.xdp),
            "sysctl": dict(self.settings),
        }
        return {
            name: hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
            for name, value in walls.items()
        }

    @property
    def rules_hold(self) -> bool:
        """Whether the ingress chain, alone, keeps everything out."""
        return keeps_out([json.loads(each) for each in self.rules])

    @property
    def xdp_holds(self) -> bool:
        """Whether the XDP program is the one that drops everything."""
        return self.xdp.get("tag") in tags()


def read_walls(namespace: str = NAMESPACE) -> Walls:
    """What stands now.

    Raises:
        ExportLineDown: there is no such namespace or no card in it, or a program fails.
    """
    listing = json.loads(inside(namespace, "nft", "-j", "list", "ruleset"))["nftables"]
    (link,) = json.loads(inside(namespace, "ip", "-j", "-d", "-s", "link", "show", "dev", DEVICE))
    links = json.loads(inside(namespace, "ip", "-j", "address", "show"))
    routes = json.loads(inside(namespace, "ip", "-j", "route", "show", "table", "all") or "[]")
    routes += json.loads(inside(namespace, "ip", "-j", "-6", "route", "show", "table", "all") or "[]")
    neighbours = json.loads(inside(namespace, "ip", "-j", "neighbour", "show", "dev", DEVICE) or "[]")
    said = inside(namespace, "sh", "-c", _READ_SETTINGS.format(" ".join(SETTINGS)))
    return Walls(
        rules=tuple(rules_in(listing)),
        counted=_counted(listing),
        xdp=_xdp(link),
        settings=dict(line.split(":", 1) for line in said.splitlines()),
        flags=frozenset(link["flags"]),
        addresses=tuple(
            sorted(
                f"{each['local']}/{each['prefixlen']}"
                for entry in links
                for each in entry.get("addr_info", ())
                if "local" in each
            )
        ),
        routes=tuple(
            sorted(_route(each) for each in routes if each.get("type") not in {"local", "broadcast"})
        ),
        neighbours=tuple(
            sorted(f"{each['dst']} {each.get('lladdr')} {'/'.join(each['state'])}" for each in neighbours)
        ),
        received=int(link["stats64"]["rx"]["packets"]),
    )


def _route(route: Mapping[str, Any]) -> str:
    way = f" via {route['gateway']}" if "gateway" in route else ""
    return f"{route['dst']}{way} dev {route.get('dev')}"


def _xdp(link: Mapping[str, Any]) -> dict[str, str]:
    found = link.get("xdp")
    if not found or "prog" not in found:
        return {}
    program = found["prog"]
    return {
        "mode": _MODES.get(found.get("mode"), str(found.get("mode"))),
        "name": str(program.get("name", "")),
        "tag": str(program.get("tag", "")),
    }


def rules_in(listing: list[dict[str, Any]]) -> Iterator[str]:
    """The parts of a ruleset, one JSON text each, in order and without what passes.  Pure."""
    for each in listing:
        if "metainfo" not in each:
            yield json.dumps(_lasting(each), sort_keys=True)


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(part) for key, part in value.items() if key not in _PASSING}
    return [_lasting(part) for part in value] if isinstance(value, list) else value


def _counted(listing: list[dict[str, Any]]) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for each in listing:
        rule = each.get("rule", {})
        for part in rule.get("expr", ()):
            if "counter" in part:
                key = f"{rule['family']} {rule['chain']}"
                found[key] = (*found.get(key, ()), int(part["counter"]["packets"]))
    return found


def looked(walls: Walls | None, wrong: list[str], received: int) -> dict[str, object]:
    """What the exporter is told: the time (ms since 1970), digests, frames since the line is up, faults."""
    now = time.time_ns() // 1_000_000
    return {"time": now, "digests": walls.digests if walls else {}, "received": received, "faults": wrong}


def keeps_out(parts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these parts of a ruleset drop every frame that comes in at the card.  Pure."""
    chains = [
        (each["chain"]["table"], each["chain"]["name"])
        for each in parts
        if "chain" in each
        and (each["chain"].get("family"), each["chain"].get("hook")) == ("netdev", "ingress")
        # nft 1.0.6 leaves the device out; there is only one in the namespace.
        and each["chain"].get("dev", DEVICE) in (DEVICE, [DEVICE])
        and each["chain"].get("policy") == "drop"
    ]
    doing = {
        (each["rule"]["table"], each["rule"]["chain"], verb)
        for each in parts
        if each.get("rule", {}).get("family") == "netdev"
        for expression in each["rule"]["expr"]
        for verb in expression
    }
    return any(
        all(verb in {"counter", "drop"} for table, name, verb in doing if (table, name) == chain)
        for chain in chains
    )


def faults(walls: Walls, line: Line, rules: tuple[str, ...] | None = None) -> list[str]:
    """What does not stand as it was put up, one sentence each.  Pure.

    Args:
        walls: what stands.
        line: what is wanted.
        rules: the rules as they were when they had just been loaded; None: only the chains are judged.
    """
    wanted = {
        "addresses": (walls.addresses, (f"{line.address}/32",)),
        "routes": (walls.routes, (f"{line.receiver} dev {DEVICE}",)),
        "neighbours": (walls.neighbours, (f"{line.receiver} {line.receiver_mac} PERMANENT",)),
    }
    return barrier_faults(walls, rules) + [
        f"{name}: {', '.join(found) or 'none'}, not {', '.join(want)}"
        for name, (found, want) in wanted.items()
        if found != want
    ]


def barrier_faults(walls: Walls, rules: tuple[str, ...] | None = None) -> list[str]:
    """Of these, what must stand before the link is on.  Pure."""
    wrong = []
    if not walls.rules_hold:
        wrong.append(f"no chain of nftables drops what comes in at {DEVICE}")
    if rules is not None and rules != walls.rules:
        wrong.append("the rules of nftables are not those that were loaded")
    if not walls.xdp_holds:
        what = f"another XDP program, {walls.xdp.get('name')}," if walls.xdp else "no XDP program"
        wrong.append(f"{what} is at {DEVICE}")
    has_six = any(path.startswith("ipv6/") for path in walls.settings)
    wrong += [
        f"{path} is {walls.settings.get(path, 'not there')}, not {value}"
        for path, value in SETTINGS.items()
        if walls.settings.get(path) != value and (has_six or not path.startswith("ipv6/"))
    ]
    if "NOARP" not in walls.flags:
        wrong.append(f"{DEVICE} speaks ARP")
    return wrong


def accepted(walls: Walls) -> list[str]:
    """Rules that let something through, in either direction.  Pure."""
    return [
        each
        for each in walls.rules
        if f'"{TABLE}"' in each
        and any("accept" in part for part in json.loads(each).get("rule", {}).get("expr", ()))
    ]
