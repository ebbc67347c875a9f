"""Judges the clock: what keeps it is what the inventory says; how far it is off, and how fast it drifts.

The station's clock is what there is to compare with; it is not said to be right.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from appliance.node.host_data import patterns
from appliance.node.qualification.finding import Finding, lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.host import Time
    from appliance.node.host_data import HostData
    from appliance.node.probe import Runs
    from appliance.node.qualification.autostart import Autostart

#: So far a node's clock may be from the station's.
CLOCK_SECONDS: Final = 300
_DAY: Final = 86_400


@dataclass(frozen=True)
class Reading:
    """The node's clock against the station's, all in seconds; ``station`` since 1970.

    The true offset lies within ``offset`` ± ``error``: half of what the question took.
    """

    station: float
    offset: float
    error: float


def read_clock(connection: Runs) -> Reading:
    """Ask the node for its time, three times; the quickest answer says most."""
    readings = []
    for _ in range(3):
        asked, started = time.time(), time.monotonic()
        done = connection.run("date +%s.%N", timeout=30)
        took = time.monotonic() - started
        there = float(done.stdout)
        readings.append(Reading(asked + took / 2, there - (asked + took / 2), took / 2))
    return min(readings, key=lambda reading: reading.error)


def drift(first: Reading, last: Reading) -> float | None:
    """Seconds a day by which the node's clock gains; None when the readings cannot tell it from nothing.

    Two readings tell a drift when their offsets are further apart than both errors together.
    """
    apart = last.station - first.station
    if apart <= 0 or abs(last.offset - first.offset) <= first.error + last.error:
        return None
    return (last.offset - first.offset) / apart * _DAY


def load_readings(path: Path) -> list[Reading]:
    """Readings of earlier reports, the oldest first; none where nothing can be read."""
    try:
        return [Reading(**each) for each in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def store_readings(readings: Sequence[Reading], path: Path) -> None:
    """Keep the first one, from which drift is told, and the last."""
    kept = [readings[0], readings[-1]] if len(readings) > 1 else list(readings)
    path.write_text(json.dumps([asdict(each) for each in kept], indent=1) + "\n", encoding="utf-8")


def spelled(reading: Reading, earlier: Sequence[Reading]) -> str:
    """A reading in words, with the drift since the first one that is known."""
    told = f"{reading.offset:+.3f} s (± {reading.error:.3f} s) from the station's clock"
    if not earlier:
        return f"{told}; no earlier reading to tell a drift from"
    first = earlier[0]
    days = (reading.station - first.station) / _DAY
    gain = drift(first, reading)
    if gain is None:
        bound = (first.error + reading.error) / max(days, 1e-9)
        return f"{told}; no drift to be seen in {days:.3f} days (it could be {bound:.1f} s a day at most)"
    return f"{told}; drift {gain:+.3f} s a day over {days:.3f} days"


#: How chrony itself sees its sources and its clock, as values (chronyc(1)); empty without chrony.
CHRONY = (
    "command -v chronyc >/dev/null && { chronyc -n -c sources; echo ===; chronyc -n -c tracking; }; true"
)


def judge_clock(
    node: Autostart,
    site: Time,
    data: HostData,
    *,
    chrony: str,
    reading: Reading,
    earlier: Sequence[Reading],
) -> Finding:
    """What keeps the clock is what the site names, and it is at work; the reading is told in any case."""
    wanted_units = data.time_units[site.source]
    keepers = sorted(
        name
        for name in node.active
        if any(fnmatchcase(name, pattern) for pattern in patterns(data.clocks)) or name in wanted_units
    )
    wrong = [f"{name} is not at work" for name in wanted_units if name not in keepers]
    wrong += [f"{name} keeps the clock" for name in keepers if name not in wanted_units]
    if site.source == "ntp":
        wrong += _chrony(chrony, {str(server) for server in site.servers})
    clock = spelled(reading, earlier)
    told = {
        "none": "nothing keeps it: it runs free",
        "ntp": f"chrony follows {', '.join(map(str, site.servers))}",
        "ptp": "ptp4l and phc2sys are at work",
    }[site.source]
    wanted = {
        "none": "no program sets the clock; its distance from the station's is told",
        "ntp": "chrony, synchronised, by the site's servers and no others",
        "ptp": "ptp4l and phc2sys, and nothing else",
    }[site.source]
    return Finding(not wrong, lines([*(wrong or [told]), clock], otherwise=""), wanted)


def _chrony(text: str, servers: set[str]) -> list[str]:
    """What is wrong with chrony's sources and state."""
    sources, _, tracking = text.partition("===\n")
    rows = [line.split(",") for line in sources.splitlines() if line.startswith("^")]
    named = {row[2] for row in rows if len(row) > 2}  # noqa: PLR2004 - mode, state, address
    wrong = [f"chrony asks {address}" for address in sorted(named - servers)]
    wrong += [f"chrony does not ask {address}" for address in sorted(servers - named)]
    state = tracking.strip().split(",")[-1] or "unknown"
    return wrong if state == "Normal" else [*wrong, f"chrony is not synchronised ({state})"]
