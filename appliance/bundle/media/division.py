"""How a bundle was or shall be divided: told by labels that are there already, else planned.

A division is fixed by the first volume that is begun.  Labels are not signed, so what they say is
compared with the bundle before anything is written by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import VolumeLabel, VolumeShare
from appliance.bundle.media.plan import Room, plan_volumes, volume_from_label
from appliance.counting import counted
from appliance.errors import LabelInvalid, MediumOccupied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.bundle.media.cargo import Cargo
    from appliance.bundle.media.plan import Offer, PlannedVolume

#: Clusters that sticks usually have, for saying how much room somebody should look for.
_USUAL_CLUSTER: Final = 32 << 10


@dataclass(frozen=True)
class Division:
    """The shares of all volumes of a bundle; the first is volume 1."""

    cargo: Cargo
    shares: tuple[VolumeShare, ...]

    @property
    def count(self) -> int:
        """How many volumes there are."""
        return len(self.shares)

    def label(self, number: int) -> VolumeLabel:
        """The label of volume ``number``."""
        manifest = self.cargo.manifest
        return VolumeLabel(self.cargo.digest, manifest.product, manifest.version, number, self.shares)

    def volume(self, number: int, room: Room | None = None) -> PlannedVolume:
        """What volume ``number`` holds, and what that takes on a medium with this room.

        Raises:
            LabelInvalid: the bundle has no such range.
        """
        room = room or Room("a usual stick", 0, _USUAL_CLUSTER)
        volume = volume_from_label(self.cargo, self.label(number), room)
        if volume is None:
            share = self.shares[number - 1]
            raise LabelInvalid(
                f"a label contradicts the bundle about volume {number}",
                found=f"{share.first} to {share.last}, {share.files:,} of {share.size:,} bytes",
                wanted="the range of the bundle that follows volume " + str(number - 1),
                hint="that volume was changed: remove its folder yourself and write it again",
            )
        return volume

    def name(self, number: int) -> str:
        """What a volume is called: ``volume 2 of 5``."""
        return f"volume {number} of {self.count}"

    def inscription(self, number: int) -> str:
        """What to write on the shell of a volume's medium."""
        manifest = self.cargo.manifest
        return f"{manifest.product} {manifest.version}, {self.name(number)}, {self.cargo.digest[:12]}"


def told_division(cargo: Cargo, labels: Mapping[str, VolumeLabel]) -> Division | None:
    """The division that labels tell, by the place each lies at; None if there are none.

    Raises:
        MediumOccupied: they tell different divisions, or one is of another bundle.
        LabelInvalid: they tell a division that the bundle cannot have.
    """
    if not labels:
        return None
    first, *others = labels
    division = Division(cargo, labels[first].volumes)
    for place, label in labels.items():
        if label.bundle != cargo.digest:
            raise MediumOccupied(
                f"{place} is a volume of another bundle",
                found=f"bundle {label.bundle}",
                wanted=f"bundle {cargo.digest}",
            )
    for place in others:
        if labels[place].volumes != division.shares:
            raise MediumOccupied(
                f"the volumes at {first} and {place} do not belong together",
                found=f"divisions into {division.count} and {len(labels[place].volumes)} volumes",
                hint="one of them was written at another time: remove its folder yourself",
            )
    if sum(share.files for share in division.shares) != len(cargo.shared):
        raise LabelInvalid(
            f"the label at {first} does not divide the whole bundle",
            found=counted(sum(share.files for share in division.shares), "file"),
            wanted=counted(len(cargo.shared), "file"),
            hint="that volume was changed: remove its folder yourself and write it again",
        )
    for number in range(1, division.count + 1):
        division.volume(number)
    return division


def plan_division(cargo: Cargo, offer: Offer) -> Division:
    """The division that follows from the room there is.

    Raises:
        MediaTooSmall: as ``plan_volumes``.
    """
    return Division(cargo, tuple(volume.share for volume in plan_volumes(cargo, offer).volumes))
