"""Has a node mount what lies on volumes that are open, and start what waited (``remote/volumes.py``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import ApplyFailed, NodeUnreachable
from appliance.node.question import BrokenOffError, question_line, run_program
from appliance.node.script import load_script

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
    volumes = [{"name": disk.name, "places": [f"{VOLUMES}/{disk.name}", *disk.mounts]} for disk in disks]
    question, name = question_line({"volumes": volumes}), connection.node.name
    try:
        said = run_program(connection, load_script("volumes"), "volumes", question, seconds=None)
    except BrokenOffError as broken:
        raise NodeUnreachable(
            f"the connection to {name} was lost",
            found=str(broken),
            hint="the volumes are open; run it again, it goes on",
        ) from None
    try:
        answer = said.answer()
        mounted, unknown, started = (
            tuple(map(str, answer[each])) for each in ("mounted", "unknown", "started")
        )
        failed = {str(what): str(why) for what, why in answer["failed"].items()}
        return Mounted(mounted, unknown, started, failed)
    except (ValueError, LookupError, TypeError, AttributeError) as fault:
        raise ApplyFailed(
            f"{name} cannot say what it mounted",
            found=said.complaint or str(fault),
            wanted="one line of JSON",
            hint="the volumes are open; run it again, it goes on",
        ) from fault
