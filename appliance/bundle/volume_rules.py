"""What several folders must be to be the volumes of one bundle: each rule with what it says when broken."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle import listing
from appliance.bundle.locating import holds_trace, is_recovery
from appliance.bundle.media.label import LABEL_PATH, UNFINISHED_PATH
from appliance.bundle.media.layout import agreed_layout, listed_numbers
from appliance.bundle.paths import LIST_PATH
from appliance.bundle.plain_files import shown
from appliance.counting import counted
from appliance.errors import (
    DigestMismatch,
    FileMissing,
    FileUnexpected,
    Usage,
    VolumeMissing,
    VolumesMixed,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.volume import Volume

_MOST_NAMES: Final = 1_000_000
WRITE_AGAIN: Final = "where the bundle is, the same `appliance media write` writes again what is wrong"
_WRITE_ON: Final = "run the same `appliance media write` again: it goes on where it stopped"
COPY_AGAIN: Final = f"`appliance media repair` mends it from the others; or {WRITE_AGAIN}"


def refuse_same_folder(volumes: Sequence[Volume]) -> None:
    """Refuse one folder that was given twice, by whatever name.

    Raises:
        Usage: naming both.
    """
    seen: dict[tuple[int, int], Volume] = {}
    for volume in volumes:
        status = volume.folder.stat()
        other = seen.setdefault((status.st_dev, status.st_ino), volume)
        if other is not volume:
            raise Usage(
                "a volume is given twice",
                found=f"{other.folder} and {volume.folder} are one folder",
                wanted="the folder of each volume, once",
            )


def refuse_recovery(folder: Path) -> None:
    """Say what a recovery volume is to who takes it for a part of the bundle.

    Raises:
        Usage: it is one.
    """
    if is_recovery(folder):
        raise Usage(
            f"{folder} is a recovery volume",
            found="recovery data for the other volumes, and no part of the bundle",
            wanted="the volumes themselves",
            hint="leave it out; appliance media check reads it, and appliance media repair takes it where "
            "a volume is lost",
        )


def refuse_bare(volumes: Sequence[Volume]) -> None:
    """Refuse a folder in which nothing of a bundle lies: most often no medium is mounted there.

    Raises:
        VolumeMissing: naming it, and the volumes that are missing, if the labels of the others tell that.
        FileMissing: naming it.
    """
    bare = [volume for volume in volumes if not holds_trace(volume.folder)]
    if not bare:
        return
    folder = bare[0].folder
    labels = [volume.label for volume in volumes if volume.label]
    layout = agreed_layout(labels) if len(labels) + len(bare) == len(volumes) else None
    missing = set(range(1, len(layout) + 1)) - {label.number for label in labels} if layout else set()
    told = f", and {_are_missing(missing, layout)}" if layout and missing else ""
    raise (VolumeMissing if told else FileMissing)(
        f"{folder} holds nothing of a bundle{told}",
        found=_all_there_is(bare[0]),
        wanted=layout.describe(missing) if layout and missing else "a bundle or a volume",
        hint="mount the medium there, or name the folder where it is; a lost volume is made again by "
        "`appliance media write --like`, or from a recovery volume by `appliance media repair --out`",
    )


def _all_there_is(volume: Volume) -> str:
    if names := volume.tree.names("", most=_MOST_NAMES):
        return f"only {shown(names)}"
    return "an empty medium" if volume.folder.is_mount() else "an empty folder: no medium is mounted there"


def _are_missing(numbers: Collection[int], layout: Layout) -> str:
    """Volumes that are missing, by their numbers: "volume 3 of 5 is missing"."""
    return f"{listed_numbers(numbers, len(layout))} {'are' if len(numbers) > 1 else 'is'} missing"


def refuse_unfinished(volumes: Sequence[Volume]) -> None:
    """Refuse a volume that was never written to its end.

    Raises:
        FileMissing: naming it.
    """
    for volume in volumes:
        if volume.unfinished:
            raise FileMissing(
                f"the volume in {volume.folder} was not written to its end",
                found=UNFINISHED_PATH,
                wanted=LABEL_PATH,
                hint=_WRITE_ON,
            )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A volume that was never written to its end: what messages call it, and its number if it is known."""

    name: str
    number: int | None


def unfinished_among_others(
    begun: Sequence[Unfinished],
    layout: Layout | None,
    missing: Sequence[str],
    given: Collection[int],
    *,
    again: str,
) -> FileMissing:
    """What to say where the files that are missing belong on volumes that were not written to their end.

    Args:
        begun: those volumes.
        layout: which volume holds what, if the labels tell it.
        missing: the files that lie on none of the volumes.
        given: the numbers of the volumes that are there.
        again: what to do afterwards.
    """
    wanted = layout.volumes_of(missing) if layout else {}
    absent = wanted.keys() - set(given)
    found = [
        f"of volume {number}: {counted(len(paths), 'file')} not there, the first is {paths[0]}"
        for number, paths in wanted.items()
        if any(each.number == number for each in begun)
    ]
    names = " and ".join(each.name for each in begun)
    ends = "were not written to their end" if len(begun) > 1 else "was not written to its end"
    others = f", and {_are_missing(absent, layout)}" if absent and layout else ""
    held = f"; {layout.describe(absent)}" if absent and layout else ""
    return FileMissing(
        f"{names} {ends}{others}",
        found="; ".join(found) or f"{counted(len(missing), 'file')} not there: {shown(missing)}",
        wanted=f"{LABEL_PATH}, which is written last{held}",
        hint=f"{_WRITE_ON}; {again}",
    )


def common_digest(volumes: Sequence[Volume]) -> str:
    """The digest of the bundle that all the volumes are of.

    Raises:
        VolumesMixed: they are of several; naming each digest with its volumes.
        DigestMismatch: all labels speak of one bundle, but a volume has another list.
        FileMissing, FileUnexpected: a volume has no list.
    """
    digests: dict[str, list[Volume]] = {}
    for volume in volumes:
        with volume.named():
            data = volume.tree.read(LIST_PATH, limit=listing.MAX_BYTES)
        digests.setdefault(hashlib.sha256(data).hexdigest(), []).append(volume)
    if len(digests) == 1:
        return next(iter(digests))
    claimed = {volume.label.bundle for volume in volumes if volume.label}
    if len(claimed) == 1 and (right := claimed.pop()) in digests:
        raise DigestMismatch(
            f"{LIST_PATH} is damaged",
            found="; ".join(
                f"{digest} in {volume.folder}"
                for digest, those in digests.items()
                for volume in those
                if digest != right
            ),
            wanted=f"{right}, as on the other volumes",
            hint=COPY_AGAIN,
        )
    raise VolumesMixed(
        f"these are volumes of {len(digests)} bundles",
        found="; ".join(
            f"bundle {digest}: {', '.join(str(volume.folder) for volume in those)}"
            for digest, those in digests.items()
        ),
        wanted="the volumes of one bundle",
        hint="name the volumes of one of them",
    )


def refuse_lacking(volume: Volume, everywhere: Sequence[str], there: Collection[str]) -> None:
    """Refuse a volume without one of the files that lie on every volume.

    Raises:
        FileMissing: naming them.
    """
    if lacking := [path for path in everywhere if path not in there]:
        raise FileMissing(
            f"{volume.name} lacks files that lie on every volume",
            found=shown(lacking),
            hint="copy them from another volume; a new signature belongs on every volume",
        )


def refuse_empty(volume: Volume, holding: Mapping[str, bool]) -> None:
    """Refuse folders that no file lies in.

    Args:
        volume: where they are.
        holding: each folder, with whether a file lies below it.

    Raises:
        FileUnexpected: naming them.
    """
    if empty := [folder for folder, held in holding.items() if not held]:
        raise FileUnexpected(
            f"{volume.name} holds empty folders",
            found=shown(empty),
            wanted="only folders in which a listed file lies",
            hint="find out what lay in them; write this volume again",
        )


def refuse_twice(twice: Mapping[tuple[Volume, Volume], Sequence[str]]) -> None:
    """Refuse files that lie on two volumes, given by those two.

    Raises:
        VolumesMixed: naming files and volumes.
    """
    for (one, other), paths in twice.items():
        raise VolumesMixed(
            f"on two volumes: {counted(len(paths), 'file')}",
            found=f"{shown(paths)} on {one.name} and on {other.name}",
            wanted="each volume once, and each file on one of them",
            hint="if one is a copy of the other, name only one of them",
        )


def refuse_missing(layout: Layout | None, missing: Sequence[str], given: Collection[int]) -> None:
    """Refuse a bundle that is not all there.

    Args:
        layout: which volume holds what, if the labels tell it.
        missing: the files that lie on none of the volumes.
        given: the numbers of the volumes that are there.

    Raises:
        VolumeMissing: naming the volumes that are not there, and what they hold.
        FileMissing: naming the files, if their volumes are there.
    """
    if not missing:
        return
    if not layout:
        raise FileMissing(
            f"on none of the volumes given: {counted(len(missing), 'listed file')}",
            found=shown(missing),
            hint="name the folders of all volumes; no label says which of them is missing",
        )
    wanted = layout.volumes_of(missing)
    if absent := wanted.keys() - given:
        raise VolumeMissing(
            _are_missing(absent, layout),
            found=f"not here: {layout.describe(absent)}",
            wanted=f"all {len(layout)} volumes at once",
            hint="name the missing folders too; with too few ports, `appliance media join` makes one "
            "folder of volumes that are inserted one after the other",
        )
    raise FileMissing(
        f"missing: {counted(len(missing), 'listed file')}",
        found="; ".join(f"of volume {number}: {shown(paths)}" for number, paths in wanted.items()),
        hint=f"`appliance media repair` mends what parity can; or {WRITE_AGAIN}",
    )
