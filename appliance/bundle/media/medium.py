"""A medium that shall take a volume: whether it can, what lies there already, how much room it has.

Nothing that is not of the volume itself is ever changed or removed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.locating import holds_trace
from appliance.bundle.media.label import (
    LABEL_PATH,
    MAX_BYTES,
    UNFINISHED_PATH,
    VolumeLabel,
    parse_label,
)
from appliance.bundle.media.plan import Room
from appliance.bundle.paths import LIST_PATH, MANIFEST_PATH
from appliance.counting import counted
from appliance.errors import (
    LabelInvalid,
    MediumFailed,
    MediumOccupied,
    MediumUnsuitable,
    Usage,
)

if TYPE_CHECKING:
    from pathlib import Path

#: Small files take at least a page wherever they lie, and some file systems claim smaller clusters.
_LEAST_CLUSTER: Final = 4 << 10


@dataclass(frozen=True, slots=True)
class Medium:
    """A target, the folder the volume has or will have there, and what its label says.

    ``label`` is None on a fresh medium; ``complete`` is False while the volume was never read back.
    """

    target: Path
    folder: Path
    label: VolumeLabel | None
    complete: bool


def examine_medium(target: Path, bundle: Path, name: str, digest: str, *, stands_for: bool) -> Medium:
    """Look at a target without changing it.

    Args:
        target: the folder a medium is mounted at, or one on it.
        bundle: the bundle's folder.
        name: the name of the bundle's volume folders.
        digest: the bundle's digest.
        stands_for: the target is a folder that stands for a medium of a given size, so it may lie on
            the bundle's own disk.

    Raises:
        MediumUnsuitable: no folder, not a medium, write-protected, or inside the bundle.
        MediumOccupied: another volume or bundle lies there, or what is no volume under its name.
    """
    try:
        with os.scandir(target) as entries:
            names = sorted(entry.name for entry in entries)
        inside = _is_inside(target, bundle)
        devices = {bundle.stat().st_dev, target.__class__("/").stat().st_dev}
        device = target.stat().st_dev
    except OSError as fault:
        raise MediumUnsuitable(
            f"{target} is not a folder that can be read",
            found=fault.strerror,
            wanted="the folder a medium is mounted at",
            hint="look whether the medium is still there, and mount it again",
        ) from fault
    if inside:
        raise MediumUnsuitable(
            f"{target} lies inside the bundle {bundle}", hint="name a folder on another medium"
        )
    if not stands_for and device in devices:
        raise MediumUnsuitable(
            f"no medium is mounted at {target}",
            found="a folder on the disk of this system, or of the bundle",
            wanted="the folder a stick or disk is mounted at",
            hint="mount it; or give --size to fill plain folders, to be copied elsewhere later",
        )
    for other in (None, *(one for one in names if one != name)):
        if found := _held(target / other if other else target):
            raise MediumOccupied(
                f"{target} holds something else already",
                found=f"{found} in {other or 'the folder itself'}",
                wanted=f"a medium without bundles, or with {name} alone",
                hint="take another medium, or look at what is there and remove it yourself",
            )
    folder = target / name
    label, complete = _label(folder, digest) if name in names else (None, False)
    if not complete and os.statvfs(target).f_flag & os.ST_RDONLY:
        raise MediumUnsuitable(
            f"the medium at {target} is write-protected",
            found="mounted for reading only",
            hint="open its write-protection and mount it again, or take another one",
        )
    return Medium(target, folder, label, complete)


def measure_room(target: Path, size: int | None) -> Room:
    """What is free on a medium.

    Args:
        target: the folder a medium is mounted at.
        size: the most that shall be used of it, in bytes; None for all.

    Raises:
        MediumUnsuitable: it does not say how much is free, and no size was given.
    """
    status = os.statvfs(target)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks == 0:
        if size is None:
            raise MediumUnsuitable(
                f"the file system at {target} does not say how much room it has",
                hint="give its size with --size",
            )
        free = size
    return Room(
        str(target), free if size is None else min(size, free), max(status.f_frsize, _LEAST_CLUSTER)
    )


def _is_inside(target: Path, bundle: Path) -> bool:
    """Whether target is the bundle or a folder in it, however both are spelled."""
    identity = bundle.stat()
    here = target.resolve()
    return any(os.path.samestat(folder.stat(), identity) for folder in (here, *here.parents))


def _held(folder: Path) -> str | None:
    """What volume or bundle lies in a folder, for people; None if nothing of the kind."""
    if any(os.path.lexists(folder / name) for name in (LABEL_PATH, UNFINISHED_PATH)):
        for name in (LABEL_PATH, UNFINISHED_PATH):
            with suppress(LabelInvalid, OSError):
                label = parse_label(_read_label(folder / name))
                return f"volume {label.number} of {len(label.volumes)} of {label.product} {label.version}"
        return "a volume with a damaged label"
    if os.path.lexists(folder / MANIFEST_PATH) or os.path.lexists(folder / LIST_PATH):
        return "a bundle"
    return None


def _label(folder: Path, digest: str) -> tuple[VolumeLabel | None, bool]:
    """What our own folder says it is, and whether it says that it is complete."""
    hint = "look at what is there and remove the folder yourself, or take another medium"
    restore = f"`appliance media repair` restores the label, if another volume is named too; or {hint}"
    for name in (LABEL_PATH, UNFINISHED_PATH):
        try:
            label = parse_label(_read_label(folder / name))
        except FileNotFoundError:
            continue
        except LabelInvalid as fault:
            raise MediumOccupied(
                f"{folder / name} is damaged: {fault.message}", found=fault.found, hint=restore
            ) from fault
        except OSError as fault:
            raise MediumFailed(f"{folder / name} cannot be read", found=fault.strerror) from fault
        if label.bundle != digest:
            raise MediumOccupied(
                f"{folder} is a volume of another bundle",
                found=f"bundle {label.bundle}",
                wanted=f"bundle {digest}",
                hint=hint,
            )
        return label, name == LABEL_PATH
    if not folder.is_dir() or folder.is_symlink() or any(folder.iterdir()):
        raise MediumOccupied(
            f"{folder} is there, but is no volume",
            found="no label",
            hint=restore if holds_trace(folder) else hint,
        )
    return None, False


def read_volume_label(folder: Path) -> VolumeLabel:
    """The label of the one volume in a folder, or on the medium mounted there; it may be unfinished.

    Raises:
        Usage: there is none, or several.
        LabelInvalid: it is damaged.
    """
    try:
        inner = [folder, *(folder / entry.name for entry in os.scandir(folder) if entry.is_dir())]
    except OSError as fault:
        raise Usage(f"{folder} is not a folder that can be read", found=fault.strerror) from fault
    paths = [one / name for one in inner for name in (LABEL_PATH, UNFINISHED_PATH)]
    found = [path for path in paths if path.is_file()]
    if len(found) != 1:
        raise Usage(
            f"{folder} is not a volume",
            found=counted(len(found), "label"),
            wanted=f"one {LABEL_PATH}, there or in a folder there",
        )
    return parse_label(_read_label(found[0]))


def _read_label(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(MAX_BYTES + 1)
