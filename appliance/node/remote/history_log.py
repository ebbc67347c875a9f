"""The history of a node: one line for each thing that was done to it, and how it ended.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``switch``.
"""

from __future__ import annotations

import json
import time
from typing import Any

from appliance.node.remote.lasting import write

#: Bytes, after which the older half goes.
LONGEST = 1 << 20

#: The action of keys that were learnt: nothing runs otherwise for it.
KEYS = "keys"


def add_line(log: str, record: dict[str, Any]) -> None:
    """Add a line with the node's own time, unless it is there already: of one run each end is told once."""
    lines = read_lines(log)
    key = (record.get("run"), record.get("result"))
    if any(key == (line.get("run"), line.get("result")) for line in lines[-2:]):
        return
    said = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {**record, "time": said}])
    while len(text) > LONGEST:
        text = text[text.index("\n", len(text) // 2) + 1 :]
    write(log, text, 0o644)


def read_lines(log: str) -> list[dict[str, Any]]:
    """All lines, the oldest first; what is damaged is passed over."""
    try:
        with open(log, encoding="utf-8", errors="replace") as stream:
            texts = stream.read().split("\n")
    except FileNotFoundError:
        return []
    found = []
    for text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        found += [line] if isinstance(line, dict) else []
    return found


def from_what_runs(record: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """A run that was cut off between proof and record left the new version: that is what runs."""
    done = [line for line in lines if line.get("action") != KEYS and line.get("result") == "done"]
    return {**record, "from": record["to"]} if done and done[-1].get("to") == record["to"] else record
