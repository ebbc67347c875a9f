"""Which volume holds what: pure, from the sizes of files and media alone.

Each volume takes as much of the bundle's order as fits, then the next goes on where it ended.  So a
volume is one range of that order, any person can tell from two paths what lies on it, and the same
sizes always give the same plan.  Nothing is moved out of its order to fill a gap: cut files end at
1 GiB, so no stick is left emptier than that.

Room is counted as file systems count it: whole clusters for every file and folder, an entry for each
name, and a thousandth for their tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import (
    LABEL_PATH,
    MAX_VOLUMES,
    SPARE_FOLDER,
    VolumeLabel,
    VolumeShare,
    volume_folder_name,
)
from appliance.bundle.media.sizes import size_text
from appliance.bundle.paths import PAYLOAD_FOLDER, folders_of
from appliance.counting import counted
from appliance.errors import MediaTooSmall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.media.cargo import Cargo, Part

#: The longest entry of a name in a folder: FAT needs 32 bytes for every 13 characters.
_NAME: Final = 1 << 10
#: A label names two paths of each volume; those of a few hundred volumes fit.
_LABEL: Final = 64 << 10
#: Of each medium, what is left free for tables that grow with what is written.
_RESERVE: Final = 1024
_SMALL: Final = 32 * 10**9
#: What formatting takes of a medium, beside a thousandth: alignment, journal, two copies of the FAT.
_FORMATTING: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Room:
    """What one medium has: ``size`` bytes free, counted in clusters of ``cluster`` bytes.

    ``formatting`` are the bytes that formatting takes of it, of a medium as it is bought.
    """

    name: str
    size: int
    cluster: int
    formatting: int = 0


@dataclass(frozen=True, slots=True)
class Offer:
    """The media there are, in order; with ``repeats`` there are more like the last one."""

    rooms: tuple[Room, ...]
    repeats: bool


@dataclass(frozen=True, slots=True)
class PlannedVolume:
    """One volume: its parts in the bundle's order, and the bytes it takes with all that repeats.

    ``there`` is "complete" or "begun" if it lies on a medium already.
    """

    number: int
    room: Room
    parts: tuple[Part, ...]
    used: int
    there: str | None = None

    @property
    def share(self) -> VolumeShare:
        """The parts, as a label names them."""
        size = sum(part.size for part in self.parts)
        return VolumeShare(size, len(self.parts), self.parts[0].path, self.parts[-1].path)

    @property
    def holds(self) -> tuple[str, ...]:
        """The components, and ``parity``, of which something lies here."""
        return tuple(dict.fromkeys(_name(part.path) for part in self.parts))


@dataclass(frozen=True)
class Plan:
    """Every volume of a bundle."""

    digest: str
    product: str
    version: str
    repeated: int
    volumes: tuple[PlannedVolume, ...]

    def label(self, number: int) -> VolumeLabel:
        """The label of volume ``number``."""
        shares = tuple(volume.share for volume in self.volumes)
        return VolumeLabel(self.digest, self.product, self.version, number, shares)


def raw_room(name: str, size: int) -> Room:
    """The room of a medium of ``size`` bytes that is formatted with FAT32 or exFAT as usual.

    Clusters are those that mkfs.vfat and mkfs.exfat take for sticks of this size.
    """
    taken = size // 1000 + _FORMATTING
    return Room(name, max(size - taken, 0), (32 if size <= _SMALL else 128) << 10, taken)


def plan_volumes(cargo: Cargo, offer: Offer) -> Plan:
    """Divide a bundle among media.

    Raises:
        MediaTooSmall: a medium cannot take the root files and one more file, there are too few media,
            or more would be needed than a bundle may have.
    """
    volumes: list[PlannedVolume] = []
    rest: Sequence[Part] = cargo.shared
    for room in _rooms(offer):
        if not rest:
            break
        if len(volumes) == MAX_VOLUMES:
            raise MediaTooSmall(
                f"the bundle would need more than {MAX_VOLUMES} volumes",
                found=f"media of {size_text(room.size)}",
                hint="take larger media",
            )
        volume = _fill(cargo, rest, room, len(volumes) + 1)
        volumes.append(volume)
        rest = rest[len(volume.parts) :]
    if rest:
        left = sum(part.size for part in rest)
        raise MediaTooSmall(
            f"{counted(len(offer.rooms), 'medium', 'media')} cannot hold the bundle",
            found=f"room for all but {size_text(left)}, from {rest[0].path} on",
            wanted="room for everything",
            hint="add media, or larger ones",
        )
    return planned(cargo, tuple(volumes))


def planned(cargo: Cargo, volumes: tuple[PlannedVolume, ...]) -> Plan:
    """The plan of which these are all volumes."""
    manifest = cargo.manifest
    repeated = sum(part.size for part in (*cargo.root, *cargo.spare))
    return Plan(cargo.digest, manifest.product, manifest.version, repeated, volumes)


def volume_from_label(cargo: Cargo, label: VolumeLabel, room: Room) -> PlannedVolume | None:
    """The volume that a label speaks of; None if this bundle has no such range."""
    position = sum(share.files for share in label.volumes[: label.number - 1])
    parts = cargo.shared[position : position + label.share.files]
    if not parts:
        return None
    tally = _Tally(cargo, room.cluster)
    for part in parts:
        tally.add(part.path, part.size)
    volume = PlannedVolume(label.number, room, tuple(parts), tally.used)
    return volume if volume.share == label.share else None


def _rooms(offer: Offer) -> Iterator[Room]:
    return chain(offer.rooms, repeat(offer.rooms[-1]) if offer.repeats else ())


def _fill(cargo: Cargo, rest: Sequence[Part], room: Room, number: int) -> PlannedVolume:
    """As much of ``rest`` as fits; at least one file."""
    usable = max(room.size - room.size // _RESERVE, 0)
    tally = _Tally(cargo, room.cluster)
    repeated = tally.used
    count = 0
    for part in rest:
        before = tally.used
        tally.add(part.path, part.size)
        if tally.used > usable:
            break
        count += 1
    else:
        before = tally.used
    if count:
        return PlannedVolume(number, room, tuple(rest[:count]), before)
    first = rest[0]
    what = f"{first.path} of {size_text(first.size)} beside what every volume carries"
    raise MediaTooSmall(
        f"{room.name} is too small for volume {number}",
        found=f"room for {usable:,} bytes"
        + (f", since formatting takes {room.formatting:,}" if room.formatting else ""),
        wanted=f"{tally.used:,} bytes: "
        + (what if repeated <= usable else "what every volume carries, and one file"),
        hint="take a larger medium; files are cut at 1 GiB and no further",
    )


class _Tally:
    """Bytes a medium needs for one volume: at first for what every volume carries."""

    def __init__(self, cargo: Cargo, cluster: int) -> None:
        self._cluster = cluster
        self._top = volume_folder_name(cargo.manifest.product, cargo.manifest.version, cargo.digest)
        self._folders: set[str] = set()
        self.used = 0
        self.add(LABEL_PATH, _LABEL)
        for part in cargo.root:
            self.add(part.path, part.size)
        for part in cargo.spare:
            self.add(f"{SPARE_FOLDER}/{part.path}", part.size)

    def add(self, path: str, size: int) -> None:
        """Count a file, and the folders it is the first in."""
        fresh = [folder for folder in folders_of(f"{self._top}/{path}") if folder not in self._folders]
        self._folders.update(fresh)
        self.used += _clusters(size, self._cluster) + _NAME + len(fresh) * (self._cluster + _NAME)


def _clusters(size: int, cluster: int) -> int:
    return -(-size // cluster) * cluster


def _name(path: str) -> str:
    """The component of a payload file, or ``parity``."""
    top, _, rest = path.partition("/")
    return rest.partition("/")[0] if top == PAYLOAD_FOLDER else top
