"""The volumes that an inventory names, found among a node's drives: settings and a state in, volumes out.

A drive is known by its serial number, and by its namespace where the inventory names one; a volume by the
UUID of its LUKS header, which is all that a start of the node needs to know of it.  What is wrong has a
name that stays: ``absent``, ``several``, ``not-enrolled``, ``header-lost``, ``open-elsewhere``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.disks import Disk
    from appliance.disk.state import Drive


@dataclass(frozen=True, slots=True)
class Volume:
    """A drive that is enrolled, and what it is to be.

    Attributes:
        disk: as the inventory says.
        drive: as it was found.
        uuid: of its LUKS header.
    """

    disk: Disk
    drive: Drive
    uuid: str

    @property
    def open(self) -> bool:
        """Whether it is open under its name."""
        use = self.drive.use
        return use is not None and self.disk.name in use.volumes

    def as_dict(self) -> dict[str, object]:
        """As the module ``encrypted_volumes`` takes it."""
        disk = self.disk
        return {
            "name": disk.name,
            "uuid": self.uuid,
            "unlock": disk.unlock,
            "filesystem": disk.filesystem,
            "mounts": list(disk.mounts),
        }


def find_volumes(disks: Sequence[Disk], drives: Sequence[Drive], *, node: str) -> tuple[Volume, ...]:
    """Every volume, in the order of the inventory.

    Args:
        disks: as the inventory says.
        drives: of the node.
        node: its name, for errors.

    Raises:
        DriveUnsuitable: a drive is not there, or is not what it has to be.
    """
    return tuple(_volume(disk, drives, node) for disk in disks)


def _volume(disk: Disk, drives: Sequence[Drive], node: str) -> Volume:
    same = [one for one in drives if one.serial == disk.serial]
    if disk.namespace is not None:
        same = [one for one in same if one.namespace == str(disk.namespace)]
    if not same:
        raise _wrong(
            disk,
            node,
            "absent",
            "the node has: " + (", ".join(sorted({one.serial or "?" for one in drives})) or "no drive"),
            "see to the drive, its cable and its power; or correct the inventory",
        )
    if len(same) > 1:
        raise _wrong(
            disk,
            node,
            "several",
            "one serial number at " + ", ".join(one.path for one in same),
            "name the namespace in the inventory",
        )
    (drive,) = same
    if drive.luks is None and drive.owner == "somebody" and drive.locking:
        raise _wrong(
            disk,
            node,
            "header-lost",
            f"{drive.path} has an owner, and no LUKS header that can be read",
            "the data is there: disk escrow open --what header; docs/disk.md, When the header is lost",
        )
    if not drive.enrolled or drive.luks is None or not drive.luks.uuid:
        raise _wrong(
            disk,
            node,
            "not-enrolled",
            f"{drive.path} is not encrypted by itself",
            "appliance disk status says how it stands, and appliance disk enroll encrypts it",
        )
    others = [name for name in (drive.use.volumes if drive.use else ()) if name != disk.name]
    if others:
        raise _wrong(
            disk,
            node,
            "open-elsewhere",
            f"{drive.path} is open as {', '.join(others)}",
            "unmount what is on it, and close it: cryptsetup close NAME",
        )
    return Volume(disk, drive, drive.luks.uuid)


def _wrong(disk: Disk, node: str, name: str, found: str, hint: str) -> DriveUnsuitable:
    return DriveUnsuitable(
        f"{disk.name} of {node}: {name}",
        found=found,
        wanted=f"the drive {disk.serial}"
        + (f", namespace {disk.namespace}," if disk.namespace is not None else "")
        + " enrolled",
        hint=hint,
    )
