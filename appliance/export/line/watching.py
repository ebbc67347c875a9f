"""Looks at the walls again and again, and writes down what stands: the exporter may not ask the kernel.

Where both walls are gone, the link is switched off: then nothing leaves either, which the receiver sees.
While one of them stands the way is still one-way, and the alarm has to get out on it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from appliance.bundle.durable import replace_file
from appliance.errors import ExportLineDown
from appliance.export.line.commands import inside
from appliance.export.line.settings import DEVICE, NAMESPACE
from appliance.export.line.walls import faults, looked, read_walls

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.export.line.settings import Line

EVERY: Final = 2.0


def watch_line(line: Line, raised: Mapping[str, Any], to: Path, stop: threading.Event) -> None:
    """Until ``stop`` is set; the last that was seen stays in the file, with its time."""
    while True:
        replace_file(to, json.dumps(look(line, raised), sort_keys=True).encode())
        if stop.wait(EVERY):
            return


def look(line: Line, raised: Mapping[str, Any]) -> dict[str, Any]:
    """One look, as ``looked`` says it."""
    try:
        walls = read_walls()
    except ExportLineDown as fault:
        return looked(None, [fault.message], 0)
    wrong = faults(walls, line, tuple(raised["rules"]))
    if not walls.rules_hold and not walls.xdp_holds:
        inside(NAMESPACE, "ip", "link", "set", "dev", DEVICE, "down")
        wrong.append("no wall was left: the link was switched off")
    return looked(walls, wrong, walls.received - int(raised["received"]))
