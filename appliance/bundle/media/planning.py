"""Planning for media that are there, or for sizes somebody names; writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.media.cargo import read_cargo
from appliance.bundle.media.medium import measure_room
from appliance.bundle.media.plan import Offer, Plan, Room, plan_volumes, raw_room
from appliance.bundle.media.sizes import size_text
from appliance.bundle.opening import open_tree
from appliance.errors import MediumUnsuitable, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def plan_media(bundle: Path, *, sizes: Sequence[int] = (), mounts: Sequence[Path] = ()) -> Plan:
    """How a bundle would be divided.

    Args:
        bundle: the bundle's folder.
        sizes: of media as bought, in bytes; there are more of the last one.
        mounts: where media are mounted, instead of sizes; there are no others.

    Raises:
        Usage: both were given, or neither.
        BundleUntrusted: the bundle is malformed.
        MediumUnsuitable: a mount is no folder, or does not say how much room it has.
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
        rooms = [raw_room(size_text(size), size) for size in sizes]
    else:
        rooms = [_room(mount) for mount in mounts]
    return plan_volumes(cargo, Offer(tuple(rooms), repeats=bool(sizes)))


def _room(mount: Path) -> Room:
    try:
        return measure_room(mount, None)
    except OSError as fault:
        raise MediumUnsuitable(
            f"{mount} is not a folder that can be read",
            found=fault.strerror,
            wanted="the folder a medium is mounted at",
        ) from fault
