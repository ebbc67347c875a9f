"""Packet filters as text: what ``iptables-save`` writes, compared line by line.  Values in, values out."""

from __future__ import annotations

import re
from typing import Any

_COUNTERS = re.compile(r"^(:\S+ \S+) \[\d+:\d+\]$")

BUILT_IN = ("INPUT", "FORWARD", "OUTPUT")


def normalise(dump: str) -> str:
    """The rules of ``iptables-save``'s text, without comments and packet counters.

    Returns:
        Lines, each ended; equal for equal rules.
    """
    lines = (line.rstrip() for line in dump.splitlines() if line and not line.startswith("#"))
    return "".join(_COUNTERS.sub(r"\1 [0:0]", line) + "\n" for line in lines)


def open_policies(rules: str) -> list[str]:
    """The built-in chains whose policy is not DROP, sorted; a chain that is missing is open."""
    return [chain for chain in sorted(BUILT_IN) if f":{chain} DROP [0:0]" not in rules.splitlines()]


def argv(pair: dict[str, Any], port: int) -> list[str]:
    """``ufw``'s arguments for one admitted pair (see the filter ``appliance_admit``)."""
    return [
        *("allow", "in", "on", pair["device"], "proto", "tcp"),
        *("from", pair["network"], "to", "any", "port", str(port), "comment", "management SSH"),
    ]
