"""Packet filters as text, as ``iptables-save`` and ``nft`` write them.  Values in, values out."""

from __future__ import annotations

import re
from typing import Any

_COUNTERS = re.compile(r"^(:\S+ \S+) \[\d+:\d+\]$")

#: Lines of an nft table that filters nothing: heads, ends, and chains that accept whatever no rule judges.
_NOTHING = re.compile(r"\s*(?:table .*\{|chain .*\{|type .*(?:policy accept;)|\})\s*")

BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")


#: The table that is ufw's.
FILTER = "filter"


def normalise(dump: str) -> str:
    """The rules of ``iptables-save``'s text, without comments, packet counters and tables that do nothing.

    Returns:
        Lines, each ended; equal for equal rules.
    """
    lines = [line.rstrip() for line in dump.splitlines() if line and not line.startswith("#")]
    tables: list[list[str]] = []
    for line in lines:
        if line.startswith("*"):
            tables.append([])
        if tables:
            tables[-1].append(_COUNTERS.sub(r"\1 [0:0]", line))
    kept = [table for table in tables if table[0] == f"*{FILTER}" or _does_something(table)]
    return "".join(f"{line}\n" for table in sorted(kept) for line in table)


def _does_something(table: list[str]) -> bool:
    """A rule, or a chain whose policy is not to accept."""
    return any(line.startswith("-A") or (line.startswith(":") and " DROP " in line) for line in table)


def other_tables(rules: str) -> list[str]:
    """Tables besides ufw's in normalised rules."""
    return [line[1:] for line in rules.splitlines() if line.startswith("*") and line != f"*{FILTER}"]


def normalise_nft(listing: str) -> str:
    """``nft --stateless list ruleset``'s text without tables that do nothing.

    Tables, and chains and sets in them, are sorted: they are listed in the order in which they were made.
    """
    tables: list[list[str]] = []
    for line in listing.splitlines():
        if line.startswith("table "):
            tables.append([])
        if tables and line.strip() and not line.lstrip().startswith("# Warning"):
            tables[-1].append(line.rstrip())
    kept = [table for table in tables if not all(map(_NOTHING.fullmatch, table))]
    return "".join(f"{line}\n" for table in sorted(kept) for line in _sorted_table(table))


def _sorted_table(table: list[str]) -> list[str]:
    """A table's lines with its blocks in order; a block ends with a brace that is indented once."""
    head, *body, end = table
    blocks: list[list[str]] = [[]]
    for line in body:
        blocks[-1].append(line)
        if line == "\t}":
            blocks.append([])
    return [head, *(line for block in sorted(blocks) for line in block), end]


def nft_tables(rules: str) -> list[tuple[str, str]]:
    """``[(family, name)]`` of the tables in a normalised listing."""
    heads = [line.split() for line in rules.splitlines() if line.startswith("table ")]
    return [(words[1], words[2]) for words in heads]


def unlimited_logs(rules: str) -> list[str]:
    """Rules that write to the kernel's log as often as anybody likes."""
    logs = [line for line in rules.splitlines() if re.search(r"-j (LOG|NFLOG)\b", line)]
    return [line for line in logs if "-m limit" not in line and "-m hashlimit" not in line]


def open_policies(rules: str) -> list[str]:
    """The built-in chains whose policy is not DROP, sorted; a chain that is missing is open."""
    return [chain for chain in sorted(BUILT_IN) if f":{chain} DROP [0:0]" not in rules.splitlines()]


def argv(pair: dict[str, Any], port: int) -> list[str]:
    """``ufw``'s arguments for one admitted pair (see the filter ``appliance_admit``)."""
    return [
        *("allow", "in", "on", pair["device"], "proto", "tcp"),
        *("from", pair["network"], "to", "any", "port", str(port), "comment", "management SSH"),
    ]


def flow_argv(rule: dict[str, Any]) -> list[str]:
    """``ufw``'s arguments for one rule of a flow (see the filter ``appliance_flows``)."""
    ends = (
        ("from", rule["peer"], "to", "any")
        if rule["direction"] == "in"
        else ("from", "any", "to", rule["peer"])
    )
    return [
        *("allow", rule["direction"], "on", rule["device"], "proto", rule["protocol"]),
        *(*ends, "port", rule["port"], "comment", f"flow {rule['flow']}"),
    ]
