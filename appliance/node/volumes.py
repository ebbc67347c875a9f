"""Has a node mount what lies on volumes that are open, and start what waited (``remote/volumes.py``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.connection import SSH_FAILED
from appliance.node.script import load_script, start_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.definition.disks import Disk
    from appliance.node.connection import Connection

#: Where volumes are mounted, each by its name (role disk_encryption).
VOLUMES: Final = "/mnt/appliance"


@dataclass(frozen=True)
class Mounted:
    """What came of it.

    Attributes:
        mounted: places that are mounted now and were not.
        unknown: places that the node has no unit for: the role has not run since the inventory named them.
        started: units that waited.
        failed: what could not be mounted or started, and what systemd said.
    """

    mounted: tuple[str, ...]
    unknown: tuple[str, ...]
    started: tuple[str, ...]
    failed: Mapping[str, str]


def mount_places(connection: Connection, disks: Sequence[Disk]) -> Mounted:
    """Mount everything that lies on these drives, and start what waited for it; as long as that takes.

    Raises:
        NodeUnreachable: the connection broke.
        ApplyFailed: the node could not tell.
    """
    script = load_script("volumes")
    volumes = [{"name": disk.name, "places": [f"{VOLUMES}/{disk.name}", *disk.mounts]} for disk in disks]
    question = json.dumps({"volumes": volumes}).encode() + b"\n"
    done = connection.run(start_command(script, "volumes"), stdin=script + question, timeout=None)
    told = done.stderr.decode(errors="replace").strip()[-500:]
    name = connection.node.name
    if done.returncode == SSH_FAILED and connection.node.connection == "ssh":
        raise NodeUnreachable(
            f"the connection to {name} was lost",
            found=told or "ssh failed",
            hint="the volumes are open; run it again, it goes on",
        )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as fault:
        raise ApplyFailed(
            f"{name} cannot say what it mounted",
            found=told or f"exit status {done.returncode}",
            wanted="one line of JSON",
            hint="the volumes are open; run it again, it goes on",
        ) from fault
    return Mounted(
        tuple(answer["mounted"]), tuple(answer["unknown"]), tuple(answer["started"]), answer["failed"]
    )
