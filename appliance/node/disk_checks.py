"""Preflight: the bundle is staged where it shall lie, and not in the open below a volume that is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from appliance.node.verdict import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.definition.inventory import NodeEntry

#: What an installation writes before any role runs.
_HOME: Final = "/var/lib/appliance"


def disk_checks(node: NodeEntry, facts: Mapping[str, Any]) -> Iterator[Check]:
    """Volumes that the installation writes to before it mounts the others."""
    for disk in node.disks:
        early = [place for place in disk.mounts if _written_early(place)]
        if not early:
            continue
        closed = [place for place in early if place not in facts["mounts"]]
        yield Check(
            "volume",
            not closed,
            f"{disk.name}: not mounted: {', '.join(closed)}" if closed else f"{disk.name} is mounted",
            f"{', '.join(early)} mounted from the drive {disk.serial}",
            f"appliance disk unlock --node {node.name}, then appliance disk mount --limit {node.name}",
        )


def _written_early(place: str) -> bool:
    """Whether a place holds what an installation writes first, or some of it."""
    return f"{_HOME}/".startswith(f"{place}/") or f"{place}/".startswith(f"{_HOME}/")
