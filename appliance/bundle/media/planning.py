"""Planning for media that are there, or for sizes somebody names; writes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.bundle.media.cargo import read_cargo
from appliance.bundle.media.division import told_division
from appliance.bundle.media.medium import measure_room
from appliance.bundle.media.plan import Offer, Plan, Room, plan_volumes, planned, raw_room
from appliance.bundle.media.sizes import size_text
from appliance.bundle.media.targets import examine_targets, refuse_shared_room, require_room
from appliance.bundle.opening import open_tree
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from appliance.bundle.media.division import Division
    from appliance.bundle.media.medium import Medium
    from appliance.bundle.media.plan import PlannedVolume

_NOT_HERE = Room("not here", 0, 32 << 10)


def plan_media(bundle: Path, *, sizes: Sequence[int] = (), mounts: Sequence[Path] = ()) -> Plan:
    """How a bundle would be divided, or is: where volumes lie on the media already, that stands.

    Args:
        bundle: the bundle's folder.
        sizes: of media as bought, in bytes; there are more of the last one.
        mounts: where media are mounted, instead of sizes; there are no others.

    Raises:
        Usage: both were given, or neither, or a mount twice.
        BundleUntrusted: the bundle is malformed.
        PreflightFailed: what ``media write`` would refuse of these media: the subclass says it.
        MediaTooSmall: the bundle does not fit.
    """
    if bool(sizes) == bool(mounts):
        raise Usage(
            "name sizes or mounted media",
            wanted="--size 64GB or --to /mnt/usb, either of them repeated as needed",
        )
    with open_tree(bundle) as tree:
        cargo = read_cargo(tree)
    if sizes:
        rooms = tuple(raw_room(size_text(size), size) for size in sizes)
        return plan_volumes(cargo, Offer(rooms, repeats=True))
    media = examine_targets(bundle, cargo, mounts, stands_for=True)
    if len(media) < len(mounts):
        raise Usage(
            "a medium is given twice",
            found=", ".join(map(str, mounts)),
            wanted="each once; media that are inserted later are planned by --size",
        )
    refuse_shared_room(media, hint="name each medium once")
    labels = {str(target): medium.label for target, medium in media.items() if medium.label}
    told = told_division(cargo, labels)
    if told is None:
        return plan_volumes(cargo, Offer(tuple(map(_room, media.values())), repeats=False))
    return planned(cargo, tuple(_as_told(told, media.values())))


def _as_told(division: Division, media: Collection[Medium]) -> Iterator[PlannedVolume]:
    """Each volume on the medium that ``media write`` would find it on, or write it to."""
    there = {medium.label.number: medium for medium in media if medium.label}
    free = (medium for medium in media if not medium.label)
    for number in range(1, division.count + 1):
        if medium := there.get(number):
            volume = division.volume(number, _room(medium))
            yield replace(volume, there="complete" if medium.complete else "begun")
        elif medium := next(free, None):
            volume = division.volume(number, _room(medium))
            require_room(volume, division.name(number))
            yield volume
        else:
            yield division.volume(number, _NOT_HERE)


def _room(medium: Medium) -> Room:
    """The room on a medium for its volume, which may lie there already."""
    room = measure_room(medium.target, None)
    files = (path for path in medium.folder.rglob("*") if path.is_file()) if medium.label else ()
    held = sum(-(-path.stat().st_size // room.cluster) * room.cluster for path in files)
    return replace(room, size=room.size + held)
