"""Where an escrow lies: not in memory, and not on the disk that the drive's own node starts from.

What is written to memory comes back from memory, whole, and is gone when the machine stops.  So an escrow
there proves nothing.  Of the node's own console besides: a folder on another partition or volume of the
disk that holds the root dies with that disk.

By proc_pid_mountinfo(5), and of disks by sysfs: a partition's folder lies in its disk's, and a volume's
disks are those of its ``slaves``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import Usage

MOUNTS: Final = Path("/proc/self/mountinfo")
DEVICES: Final = Path("/sys/dev/block")
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs", "hugetlbfs"})
#: Disks made of memory.
_MEMORY: Final = ("ram", "zram", "pmem")
_MOST_LAYERS: Final = 16


@dataclass(frozen=True, slots=True)
class _Mount:
    device: str
    place: Path
    kind: str
    source: str


def refuse_medium(
    folder: Path, *, local: bool, root: Path = Path("/"), mounts: Path = MOUNTS, devices: Path = DEVICES
) -> None:
    """Refuse an escrow that proves nothing, or that lies where the drive is.

    Args:
        folder: the escrow.
        local: whether this machine is the node whose drive is encrypted.
        root: where this machine's root is mounted.
        mounts: proc_pid_mountinfo(5).
        devices: block devices by number, in sysfs.

    Raises:
        Usage: it is no folder, lies in memory, on the node itself, or nobody can tell where.
    """
    try:
        if not folder.is_dir():
            raise NotADirectoryError(0, "no folder")
        here = _mount(folder, mounts)
        disks = _disks(here, folder, devices)
        start = _disks(_mount(root, mounts), root, devices) if local else frozenset()
    except OSError as fault:
        raise Usage(
            f"the escrow {folder} cannot be used", found=fault.strerror, wanted="a folder"
        ) from fault
    if here is None or here.kind in _IN_MEMORY or any(disk.startswith(_MEMORY) for disk in disks):
        raise Usage(
            f"the escrow {folder} lies in memory"
            if here
            else f"nobody knows where the escrow {folder} lies",
            found=here.kind if here else "no such mount",
            wanted="a medium that outlasts this machine",
        )
    if not local:
        return
    if folder.stat().st_dev == root.stat().st_dev or disks & start:
        raise Usage(
            f"the escrow {folder} lies on the node itself",
            found=", ".join(sorted(disks & start)) or "the file system that the node starts from",
            wanted="a medium that is taken out of it",
        )
    if not disks or not start:
        raise Usage(
            f"whether the escrow {folder} lies on the node itself cannot be told",
            found=f"{here.kind} of no disk" if not disks else "a root of no disk",
            wanted="a medium that is taken out of it",
            hint="enrol the drive from the station, over SSH",
        )


def _mount(path: Path, mounts: Path) -> _Mount | None:
    """What a path lies on: by its device's number; by its place where no mount has it, as with btrfs."""
    real = path.resolve()
    number = real.stat().st_dev
    every = [_parsed(line) for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines()]
    wanted = f"{os.major(number)}:{os.minor(number)}"
    above = [one for one in every if real.is_relative_to(one.place)]
    same = [one for one in every if one.device == wanted]
    return max([one for one in above if one in same] or same or above, key=_depth, default=None)


def _depth(mount: _Mount) -> int:
    return len(mount.place.parts)


def _parsed(line: str) -> _Mount:
    """Fields 3 and 5; after the hyphen type and source."""
    before, _, after = line.partition(" - ")
    fields, (kind, source, *_) = before.split(" "), [*after.split(" "), "", ""]
    place = fields[4].replace(r"\040", " ").replace(r"\011", "\t").replace(r"\134", "\\")
    return _Mount(fields[2], Path(place), kind, source)


def _disks(mount: _Mount | None, path: Path, devices: Path) -> frozenset[str]:
    """Names of the whole disks that a path lies on; none where it lies on no block device."""
    number = path.stat().st_dev
    found = devices / f"{os.major(number)}:{os.minor(number)}"
    source = Path("" if mount is None else mount.source)
    if not found.exists() and source.is_block_device():
        number = source.stat().st_rdev
        found = devices / f"{os.major(number)}:{os.minor(number)}"
    return _below(found.resolve(), _MOST_LAYERS) if found.exists() else frozenset()


def _below(device: Path, layers: int) -> frozenset[str]:
    """The disks that a device is made of."""
    if (device / "partition").exists():
        device = device.parent
    made_of = sorted((device / "slaves").iterdir()) if (device / "slaves").is_dir() else []
    if not made_of or not layers:
        return frozenset({device.name})
    return frozenset[str]().union(*(_below(one.resolve(), layers - 1) for one in made_of))
