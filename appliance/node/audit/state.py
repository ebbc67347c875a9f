"""A node's state as an audit compares it: by subject, ``{what: how it is}``.  Pure.

What no role declares: filter, listening sockets, units, the service's command line, accounts, packages,
files, mounts, kernel, modules, drives.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from appliance.definition.partition import UNIT
from appliance.node.qualification.autostart import parse_listing
from appliance.node.qualification.service import parse_services
from appliance.node.qualification.sockets import parse_sockets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.node.audit.asking import Facts

State = dict[str, dict[str, str]]

#: Kinds of units that run something, or wait to.
KINDS: Final = (".service", ".socket", ".timer", ".path")
#: Of systemd, what a unit file's state is when it is made anew at every start.
MADE: Final = frozenset({"generated", "transient"})
#: Lines of a table that does nothing: chains that accept what no rule judges, the end of iptables' text.
_NOTHING: Final = re.compile(r"type .*policy accept;|policy (?:ACCEPT|-)|COMMIT")


def state_of(facts: Facts) -> State:
    """Everything, by subject; a subject whose command failed is left out."""
    said = {name: text for name, (status, text) in facts.said.items() if status == 0}
    state: State = {**facts.host, "files": facts.files}
    if "rules" in said:
        state["rules"] = rules(said["rules"])
    if "listening" in said:
        state["listeners"] = listeners(said["listening"])
    if "units" in said:
        state["units"] = units(said["units"])
    if "service" in said:
        state["service"] = service(said["service"])
    return state


def rules(listing: str) -> dict[str, str]:
    """``nft --stateless list ruleset`` (or ``iptables-save``) as text by table and chain.

    Tables, and chains and sets in them, are listed in the order in which they were made; rules of a chain
    in the order that counts.  So blocks are told apart by name, and lines within them keep their order.
    Tables that do nothing are left out: programs make them by merely looking, or at a start.
    """
    tables: dict[str, dict[str, list[str]]] = {}
    table = block = ""
    for raw in listing.splitlines():
        line = raw.strip()
        if not line or line.startswith("#") or raw == "}":
            continue
        if raw.startswith(("table ", "*")):
            table = block = line.removesuffix("{").strip(" *").removeprefix("table ")
            tables[table] = {table: []}
        elif raw.startswith((":", "-")):
            name, rule = _saved(line)
            tables.setdefault(table, {}).setdefault(f"{table} {name}", []).append(rule)
        elif re.fullmatch(r"\t\S.*\{", raw):
            block = f"{table} {line.removesuffix('{').strip()}"
            tables[table][block] = []
        elif raw == "\t}":
            block = table
        else:
            tables.setdefault(table, {}).setdefault(block, []).append(line)
    kept = [blocks for blocks in tables.values() if _does_something(blocks.values())]
    return {name: "\n".join(lines) for blocks in kept for name, lines in blocks.items()}


def _does_something(blocks: Iterable[list[str]]) -> bool:
    """A rule, or a chain that does not accept what no rule judges."""
    return any(not _NOTHING.fullmatch(line) for lines in blocks for line in lines)


def _saved(line: str) -> tuple[str, str]:
    """Chain and rule of a line of iptables-save, without counters."""
    if line.startswith(":"):
        chain, policy = line[1:].split()[:2]
        return f"chain {chain}", f"policy {policy}"
    return f"chain {line.split()[1]}", line


def listeners(listing: str) -> dict[str, str]:
    """Programs by listening socket."""
    found: dict[str, set[str]] = {}
    for each in parse_sockets(listing):
        where = f"{each.protocol} {each.address} port {each.port}"
        found.setdefault(where, set()).update(each.programs or ("the kernel",))
    return {where: " ".join(sorted(names)) for where, names in found.items()}


def units(listing: str) -> dict[str, str]:
    """State of the unit file, and of the unit, by unit; of those alone that have a file or are at work."""
    node = parse_listing(listing)
    loaded = re.split(r"^=== \w+\n", listing, flags=re.MULTILINE)[1]
    rows = [line.split() for line in loaded.splitlines()]
    failed = {row[0] for row in rows if "failed" in row[2:3]}  # unit, load, active
    found = {}
    for name in sorted(node.names | failed):
        if name.endswith(KINDS):
            active = "active" if name in node.active else "failed" if name in failed else "inactive"
            found[name] = f"{node.files.get(name, 'no file')}, {active}"
    return found


def service(listing: str) -> dict[str, str]:
    """What each inference service was started with; nothing while it does not run."""
    return {
        "command line" if unit == UNIT else f"command line of {unit}": shlex.join(live.command)
        for unit, live in parse_services(listing).items()
        if live.command
    }
