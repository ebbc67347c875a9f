"""The folders a person named, open and locked; and which files belong in each of them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.fileset import children_of
from appliance.bundle.locating import find_folder, holds_trace, is_recovery, is_volume
from appliance.bundle.manifest import ListedFile
from appliance.bundle.media.label import (
    INCOMING_FOLDER,
    LABEL_PATH,
    SPARE_FOLDER,
    VolumeLabel,
    label_bytes,
)
from appliance.bundle.media.layout import Layout, agreed_layout, bundle_order, is_shared_out
from appliance.bundle.media.seen import names_on
from appliance.bundle.parity.survey import Place, Wanted
from appliance.bundle.paths import (
    MANIFEST_PATH,
    TRUST_FOLDER,
)
from appliance.bundle.volume import Volume, open_volume
from appliance.errors import FileMissing, InProgress, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from appliance.bundle.parity.copies import SoundCopy

_MAX_PARTS: Final = 1_000_000


@dataclass(frozen=True)
class Opened:
    """The open folders: bundles and volumes, and recovery volumes, which hold no part of a bundle."""

    volumes: tuple[Volume, ...]
    recovery: tuple[Volume, ...]

    @property
    def every(self) -> tuple[Volume, ...]:
        return self.volumes + self.recovery


@contextmanager
def open_places(given: Sequence[Path]) -> Iterator[Opened]:
    """Open and lock every folder that was named, or the one it holds.

    Raises:
        Usage: a folder is none, is named twice, or holds nothing of a bundle.
        InProgress: another repair works on one of them.
    """
    folders = [find_folder(path) for path in given]
    with ExitStack() as stack:
        seen: dict[tuple[int, int], Path] = {}
        for folder in folders:
            status = _status(folder)
            identity = status.st_dev, status.st_ino
            if identity in seen:
                raise Usage(
                    "a folder is named twice", found=f"{seen[identity]} and {folder}", wanted="each once"
                )
            seen[identity] = folder
            _refuse_strange(folder)
            stack.enter_context(locked(folder))
        opened = [stack.enter_context(open_volume(folder)) for folder in folders]
        recovery = tuple(volume for volume in opened if is_recovery(volume.folder))
        yield Opened(tuple(volume for volume in opened if volume not in recovery), recovery)


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """A descriptor of the folder with a lock that ends with this process and those that inherit it.

    Raises:
        InProgress: another process holds it.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise InProgress(
                f"another repair works on {folder}", hint="wait for it, then run the command again"
            ) from fault
        yield fd
    finally:
        os.close(fd)


def name_places(opened: Opened, digest: str, paths: Sequence[str]) -> tuple[list[Place], Layout | None]:
    """Which part of the bundle each folder holds, and how the labels divide the bundle.

    A volume is what its files are, whatever its label says: labels that were lost or exchanged are files
    to be mended like others.

    Args:
        opened: the folders.
        digest: the bundle's.
        paths: the bundle's files.
    """
    for volume in opened.volumes:
        volume.believe(digest)
    layout = agreed_layout(volume.label for volume in opened.volumes if volume.label)
    places = []
    for volume in opened.volumes:
        whole = not is_volume(volume.folder)
        here = shared_on(volume, paths)
        number = _number(volume, layout, here) if layout and not whole else None
        volume.call(layout, number)
        places.append(Place(volume, number, whole, here))
    return places, layout


def shared_on(volume: Volume, paths: Iterable[str]) -> AbstractSet[str]:
    """Those of a bundle's files that lie on a volume, of those that lie on one volume only."""
    present, _ = names_on(volume, children_of(list(filter(is_shared_out, paths))))
    return present


def wanted_at(
    place: Place, copy: SoundCopy, layout: Layout | None, others: Sequence[Place] = ()
) -> Iterator[Wanted]:
    """Every file that belongs in a folder.

    A volume holds what lies there; the layout says where a file belongs that lies on none of them.

    Args:
        place: the folder.
        copy: the bundle as it should be.
        layout: how the bundle is divided, if the labels agree on that.
        others: the other volumes given.
    """
    known = {**copy.contents, **copy.unlisted}
    listed = dict(copy.files)
    listed.update({path: _listed(data) for path, data in known.items()})
    root = [path for path in listed if not is_shared_out(path)]
    shared = [path for path in listed if is_shared_out(path)]
    for path in root:
        yield Wanted(place, path, path, listed[path])
    if not place.whole:
        for path in root:
            if path == MANIFEST_PATH or path.startswith(f"{TRUST_FOLDER}/"):
                yield Wanted(place, f"{SPARE_FOLDER}/{path}", path, listed[path])
        home = set(layout.volumes_of(shared).get(place.number or 0, ())) if layout else set()
        held = {path for other in others for path in other.here}
        here = place.here | (home - held)
        shared = [path for path in shared if path in here]
    for path in shared:
        yield Wanted(place, path, path, listed[path])


def leftovers_at(place: Place, copy: SoundCopy) -> Iterator[Wanted]:
    """Files under ``incoming/`` that an interrupted or hindered ``media join`` left, by their numbers."""
    try:
        names = set(place.volume.tree.names(INCOMING_FOLDER, most=_MAX_PARTS))
    except FileMissing:
        return
    for number, path in enumerate(sorted(filter(is_shared_out, copy.files), key=bundle_order)):
        if f"{number}.part" in names:
            part = f"{INCOMING_FOLDER}/{number}.part"
            yield Wanted(place, part, path, copy.files[path], leftover=True)


def label_at(place: Place, copy: SoundCopy, layout: Layout | None) -> bytes | None:
    """The label that a volume should have; None where there is none, or nobody knows it."""
    if place.whole or layout is None or place.number is None:
        return None
    manifest = copy.manifest
    return label_bytes(
        VolumeLabel(copy.digest, manifest.product, manifest.version, place.number, layout.shares)
    )


def wanted_label(place: Place, data: bytes) -> Wanted:
    """The label as a file that belongs in a volume."""
    return Wanted(place, LABEL_PATH, LABEL_PATH, _listed(data))


def _listed(data: bytes) -> ListedFile:
    return ListedFile(hashlib.sha256(data).hexdigest(), len(data))


def _number(volume: Volume, layout: Layout, here: Iterable[str]) -> int | None:
    """The number of the share that most files on a volume are of; its label's if that is as good."""
    label = volume.label.number if volume.label else None
    files = Counter(map(layout.volume_of, here))
    return max(files, key=lambda number: (files[number], number == label), default=label)


def _refuse_strange(folder: Path) -> None:
    """Refuse to take a folder with nothing of a bundle in it for a bundle that has lost everything."""
    if not holds_trace(folder):
        raise Usage(
            f"{folder} holds nothing of a bundle",
            wanted="a bundle, a volume or a recovery volume, or the medium that holds it",
            hint="name the folder itself; a volume that is lost as a whole is written again by "
            "`appliance media write --like`, or comes back from a recovery volume with --out",
        )


def _status(folder: Path) -> os.stat_result:
    found: str | None = "a file"
    try:
        status = folder.stat()
        if folder.is_dir():
            return status
    except OSError as fault:
        found = fault.strerror
    raise Usage(f"{folder} is not a folder that can be read", found=found, wanted="a bundle or a volume")
