"""Mounts what lies on volumes that were opened just now, and starts what waited for it.

Runs on the node's own Python (3.10 or later, standard library only), as root.  One line of JSON on standard
input, one on standard output:

→ {"volumes": [{"name", "places": [path]}]}     of each volume the place of its file system first
← {"mounted": [path], "unknown": [path], "started": [unit], "failed": {path or unit: what systemd said}}

``unknown``: places that no table of the node knows yet.  What waited: services, sockets, timers and paths
that are enabled, not at work, and require one of the places (RequiresMountsFor=, systemd.unit(5)).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

KINDS = (".service", ".socket", ".timer", ".path")
AT_WORK = ("active", "activating", "reloading")


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl; it asks nobody for anything."""
    return subprocess.run(
        ["systemctl", "--no-ask-password", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        check=False,
    )


def shown(name: str, *units: str) -> list[str]:
    """A property of units, one after the other."""
    text = systemctl("show", "--property", name, "--value", "--", *units).stdout
    return [line for line in text.split("\n") if line]


def unit_of(place: str) -> str:
    """The mount unit of a place."""
    command = ["systemd-escape", "--path", "--suffix=mount", place]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def mounted(place: str) -> bool:
    """Whether something is mounted there."""
    return os.path.ismount(place)


def start(unit: str) -> str:
    """Start a unit; empty, or what systemd said of its failure."""
    systemctl("reset-failed", "--", unit)
    done = systemctl("start", "--", unit)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")[-500:]


def waiting(units: list[str]) -> list[str]:
    """Enabled units that require these mounts and are not at work."""
    names = {name for line in shown("RequiredBy", *units) for name in line.split()} if units else set()
    found = []
    for name in sorted(each for each in names if each.endswith(KINDS)):
        states = systemctl("show", "--property=UnitFileState,ActiveState", "--", name).stdout
        values = dict(line.split("=", 1) for line in states.splitlines() if "=" in line)
        if (
            values.get("UnitFileState", "").startswith("enabled")
            and values.get("ActiveState") not in AT_WORK
        ):
            found.append(name)
    return found


def main() -> None:
    """One question, one answer."""
    request = json.loads(sys.stdin.buffer.readline())
    answer: dict[str, object] = {}
    done, unknown, started, failed, units = [], [], [], {}, []
    for volume in request["volumes"]:
        for place in volume["places"]:
            unit = unit_of(place)
            if shown("LoadState", unit) != ["loaded"]:
                unknown.append(place)
                continue
            units.append(unit)
            if mounted(place):
                continue
            if trouble := start(unit):
                failed[place] = trouble
            else:
                done.append(place)
    for name in [] if failed else waiting(units):
        if trouble := start(name):
            failed[name] = trouble
        else:
            started.append(name)
    answer |= {"mounted": done, "unknown": unknown, "started": started, "failed": failed}
    print(json.dumps(answer))


main()
