"""What a node could reach before it was isolated for the first time: evidence for the report.

It is tried once and kept with the records of the run; later runs, of whatever bundle, take it from there,
since a node that is isolated cannot show any more what was open before.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from appliance.node.probe import load_probe, store_probe

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.inventory import Inventory
    from appliance.node.connection import Connection
    from appliance.node.probe import OutboundProbe
    from appliance.node.runs import Run
    from appliance.progress import Progress

_NAME: Final = "before.json"


def keep_first_reach(
    connection: Connection, inventory: Inventory, run: Run, state: Path, progress: Progress
) -> None:
    """Try every way out of a node, unless an earlier run did; keep what was found beside its records."""
    from appliance.node.probe_outbound import probe_outbound

    name = connection.node.name
    kept = run.node(name) / _NAME
    if earlier := _earlier(state, inventory.site, name):
        if earlier != kept:
            kept.write_bytes(earlier.read_bytes())
        return
    progress.note(f"{name}: trying every way out, for the comparison afterwards")
    store_probe(probe_outbound(connection, inventory, connection.node), kept)


def first_reach(records: Path) -> OutboundProbe | None:
    """What was kept beside a node's records; None if there is nothing, or nothing that can be read."""
    return load_probe(records / _NAME)


def _earlier(state: Path, site: str, node: str) -> Path | None:
    """The first probe of a node, whichever bundle that run was of."""
    found = [
        path for path in (state / "runs").glob(f"*/{node}/{_NAME}") if path.parent.parent.name[13:] == site
    ]
    return min(found, key=lambda path: json.loads(path.read_text(encoding="utf-8"))["time"], default=None)
