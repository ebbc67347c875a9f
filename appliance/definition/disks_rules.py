"""What a node's encrypted drives must say about each other, and about the rest of the inventory.

A place lies on one volume and in no other place: which volume is mounted first would decide what is seen
there.  A drive is in one node and is one volume.  And whoever names a drive names who can open its keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.definition.conflict import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.definition.disks import Disk
    from appliance.definition.document import Loc
    from appliance.definition.inventory import Inventory, NodeEntry


def disk_conflicts(inventory: Inventory) -> Iterator[Conflict]:
    """Everything that is wrong with drives, node by node."""
    owners: list[tuple[Disk, str]] = []
    for node in inventory.nodes:
        loc: Loc = ("nodes", node.name, "disks")
        if node.disks and inventory.escrow is None:
            yield Conflict(
                loc,
                f"{node.name} has encrypted drives, and nobody could open their keys",
                "no escrow",
                "escrow: {recipients: {NAME: age1…}}",
                at_key=True,
            )
        for disk in node.disks:
            yield from _one_drive((*loc, disk.name), disk, owners)
            owners.append((disk, f"{disk.name} of {node.name}"))
        yield from _places(loc, node)


def _one_drive(loc: Loc, disk: Disk, owners: list[tuple[Disk, str]]) -> Iterator[Conflict]:
    for other, owner in owners:
        if disk.serial == other.serial and (
            None in {disk.namespace, other.namespace} or disk.namespace == other.namespace
        ):
            yield Conflict(
                (*loc, "serial"),
                f"the drive {disk.serial} is already {owner}",
                disk.serial,
                "each drive once, or each with its namespace",
            )


def _places(loc: Loc, node: NodeEntry) -> Iterator[Conflict]:
    seen: list[tuple[str, str]] = []
    for disk in node.disks:
        for index, place in enumerate(disk.mounts):
            for other, name in seen:
                if f"{place}/".startswith(f"{other}/") or f"{other}/".startswith(f"{place}/"):
                    yield Conflict(
                        (*loc, disk.name, "mounts", index),
                        f"{place} and {other} of {name} are the same, or lie in one another",
                        place,
                        "places that have nothing to do with each other",
                    )
            seen.append((place, disk.name))
