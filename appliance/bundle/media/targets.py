"""The media that somebody names, looked at together: each is there once, and no two are one.

Nothing is changed here.  What ``media write`` refuses of them, ``media plan`` refuses too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.media.label import volume_folder_name
from appliance.bundle.media.medium import examine_medium
from appliance.errors import MediumOccupied, MediumUnsuitable, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.cargo import Cargo
    from appliance.bundle.media.medium import Medium
    from appliance.bundle.media.plan import PlannedVolume


def examine_target(bundle: Path, cargo: Cargo, target: Path, *, stands_for: bool) -> Medium:
    """Look at one target; see ``examine_medium``."""
    manifest = cargo.manifest
    name = volume_folder_name(manifest.product, manifest.version, cargo.digest)
    return examine_medium(target, bundle, name, cargo.digest, stands_for=stands_for)


def examine_targets(
    bundle: Path, cargo: Cargo, targets: Sequence[Path], *, stands_for: bool
) -> dict[Path, Medium]:
    """Look at all targets; each is there once, in the order they were given first.

    Raises:
        PreflightFailed: a medium is unsuitable or occupied, or two hold the same volume.
    """
    media = {}
    for target in dict.fromkeys(target.resolve() for target in targets):
        media[target] = examine_target(bundle, cargo, target, stands_for=stands_for)
    numbers: dict[int, Path] = {}
    for target, medium in media.items():
        if medium.label and (other := numbers.setdefault(medium.label.number, target)) != target:
            raise MediumOccupied(
                f"{other} and {target} hold the same volume",
                found=f"volume {medium.label.number} on both",
                hint="keep one of them, and remove the folder on the other yourself",
            )
    return media


def refuse_shared_room(media: Mapping[Path, Medium], hint: str) -> None:
    """Refuse targets on one file system, whose room would be counted twice.

    Raises:
        MediumUnsuitable: naming two of them.
    """
    devices: dict[int, Path] = {}
    for target in media:
        other = devices.setdefault(target.stat().st_dev, target)
        if other != target:
            raise MediumUnsuitable(
                f"{other} and {target} are on one medium", wanted="one volume for each medium", hint=hint
            )


def require_room(volume: PlannedVolume, name: str) -> None:
    """Refuse a medium that has too little room for the volume it shall hold.

    Raises:
        SpaceExhausted: naming both.
    """
    if volume.used > volume.room.size:
        raise SpaceExhausted(
            f"{volume.room.name} is too small for {name}",
            found=f"{volume.room.size:,} bytes free",
            wanted=f"{volume.used:,} bytes",
            hint="take a larger medium; nothing was written to this one",
        )


def holding(media: Iterable[Medium], count: int) -> str:
    """What lies on media, for people: "/mnt/a holds volume 1 of 3"."""
    return ", ".join(
        f"{medium.target} holds volume {medium.label.number} of {count}"
        if medium.label
        else f"{medium.target} is free"
        for medium in media
    )
