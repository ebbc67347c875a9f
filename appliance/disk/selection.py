"""Which drives are meant: by device node or by serial number, and never by a name that means two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.errors import DriveUnsuitable, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.disk.state import Drive


def select_drives(drives: Sequence[Drive], wanted: Sequence[str], *, node: str = "") -> tuple[Drive, ...]:
    """The drives that are named, each once and in the order of the machine; all where none is.

    Args:
        drives: of one machine.
        wanted: device nodes, as /dev/nvme0n1, or serial numbers.
        node: which machine, for errors.

    Raises:
        DriveUnsuitable: there is no such drive.
    """
    where = f"{node} has" if node else "this machine has"
    for name in wanted:
        if not any(name in _names(drive) for drive in drives):
            raise DriveUnsuitable(
                f"{where} no drive {ascii(name)[1:-1]}",
                wanted="one of: "
                + (", ".join(drive.path for drive in drives) or "none, it has no drive of its own"),
                hint="appliance disk status lists them",
            )
    return tuple(drive for drive in drives if not wanted or _names(drive) & set(wanted))


def select_drive(drives: Sequence[Drive], wanted: str, *, node: str = "") -> Drive:
    """The one drive that is named.

    Raises:
        DriveUnsuitable: there is no such drive.
        Usage: it is the name of several.
    """
    found = select_drives(drives, (wanted,), node=node)
    if len(found) > 1:
        raise Usage(
            f"{ascii(wanted)[1:-1]} is the name of several drives",
            found=", ".join(drive.path for drive in found),
            wanted="one of these device nodes",
        )
    return found[0]


def _names(drive: Drive) -> set[str]:
    return {drive.path, drive.name, drive.serial} - {""}
