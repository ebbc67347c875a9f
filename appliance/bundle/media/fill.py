"""Filling one volume: from an open bundle into a folder on a medium, proved by reading it back.

A file lies in ``incoming/<its number on the volume>.part`` until every byte of it was read back from
the medium, past the page cache, and has the signed digest.  Then it gets its name, and the label, which
is written first under another name, gets its own last of all.  So what has a name is right, a volume
without a label is incomplete, and a second run goes on where the first one stopped: a part that is left
is compared with the signed block digests, and only blocks that are wrong or missing are written.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import (
    FOLDER_MODE,
    sync_file_system,
    sync_folder,
)
from appliance.bundle.media.copying import FileCopier, create_part
from appliance.bundle.media.filesystem import check_names, check_room, set_mode
from appliance.bundle.media.label import (
    INCOMING_FOLDER,
    LABEL_PATH,
    SPARE_FOLDER,
    UNFINISHED_PATH,
    label_bytes,
)
from appliance.bundle.media.readback import BlockReader
from appliance.bundle.paths import folders_of
from appliance.errors import InProgress, MediumOccupied

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.cargo import Cargo, Part
    from appliance.bundle.media.label import VolumeLabel
    from appliance.bundle.media.plan import PlannedVolume
    from appliance.bundle.opening import BundleTree
    from appliance.progress import Progress

#: Written and flushed together, then read back together: large enough that a disk need not wait for
#: each small file, small enough that little is repeated after a fault.
_BATCH_BYTES: Final = 1 << 30
_BATCH_FILES: Final = 2000
_NAMES_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a volume: its number and path there, and what of the bundle it is."""

    number: int
    path: str
    part: Part


@dataclass(frozen=True, slots=True)
class Filled:
    """What filling a volume came to: bytes written, and bytes that were right already."""

    written: int
    kept: int


def volume_entries(cargo: Cargo, volume: PlannedVolume) -> list[Entry]:
    """Every file of a volume but its label, in the order they are written."""
    pairs = [(part.path, part) for part in cargo.root]
    pairs += [(f"{SPARE_FOLDER}/{part.path}", part) for part in cargo.spare]
    pairs += [(part.path, part) for part in volume.parts]
    return [Entry(number, path, part) for number, (path, part) in enumerate(pairs)]


def fill_volume(
    tree: BundleTree,
    cargo: Cargo,
    entries: Sequence[Entry],
    *,
    label: VolumeLabel,
    folder: Path,
    progress: Progress,
) -> Filled:
    """Write what a volume still lacks, prove it, and label it.

    Args:
        tree: the open bundle.
        cargo: the same bundle.
        entries: the volume's files.
        label: what its label shall say.
        folder: the volume's folder, which exists.
        progress: told of every block; a byte counts when it is written by half, when it is read back
            in full.

    Raises:
        MediumOccupied: the folder holds files that are not the volume's.
        SpaceExhausted: the medium has too little room; nothing was written.
        MediumUnsuitable: it does not keep the volume's names.
        MediumFailed: it gives other bytes back than were written.
        DigestMismatch: the bundle is damaged; what is wrong got no name on the medium.
        InProgress: another run fills this very volume.
        OSError: what the system said of the medium.
    """
    with alone(folder), BlockReader() as reader, tree.cursor() as cursor:
        filling = _Filling(cargo, folder, FileCopier(cursor, reader, progress), progress)
        lacking = filling.survey(entries)
        if not lacking and (folder / LABEL_PATH).exists():
            return Filled(0, sum(entry.part.size for entry in entries))
        filling.begin(lacking, label)
        try:
            for batch in batches(lacking):
                filling.copy(batch)
        finally:
            progress.end()
        filling.finish()
    return Filled(filling.written, sum(entry.part.size for entry in entries) - filling.written)


class _Filling:
    """One run over one volume."""

    def __init__(self, cargo: Cargo, folder: Path, copier: FileCopier, progress: Progress) -> None:
        self._cargo = cargo
        self._folder = folder
        self._incoming = folder / INCOMING_FOLDER
        self._copier = copier
        self._progress = progress
        self._blocks: Mapping[str, tuple[bytes, ...]] = {}
        self._folders: set[str] = set()

    @property
    def written(self) -> int:
        """Bytes written in this run."""
        return self._copier.written

    def survey(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries that have no final name yet; refuses what is not of the volume."""
        wanted = {entry.path: entry.part.size for entry in entries}
        folders = {folder for path in wanted for folder in folders_of(path)} | {INCOMING_FOLDER}
        known = {f"{INCOMING_FOLDER}/{entry.number}.part" for entry in entries}
        known |= {LABEL_PATH, UNFINISHED_PATH}
        right, strange = set(), []
        for path, status in _walk(self._folder):
            if stat.S_ISDIR(status.st_mode):
                expected = path in folders
            else:
                expected = stat.S_ISREG(status.st_mode) and (path in wanted or path in known)
                if path in known or wanted.get(path) == status.st_size:
                    right.add(path)
            if not expected:
                strange.append(path)
        if strange:
            raise MediumOccupied(
                f"{self._folder} holds what is not of this volume",
                found=", ".join(ascii(path)[1:-1] for path in sorted(strange)[:_NAMES_SHOWN]),
                wanted="only files that this volume has",
                hint="look at these, remove them yourself, and run the same command again",
            )
        lacking = [entry for entry in entries if entry.path not in right]
        left = [entry for entry in lacking if f"{INCOMING_FOLDER}/{entry.number}.part" in right]
        if left:
            self._blocks = self._cargo.block_digests({entry.part.path for entry in left})
        return lacking

    def begin(self, lacking: Sequence[Entry], label: VolumeLabel) -> None:
        """See that the rest can be written; write the label under the name it has until the end."""
        cluster = os.statvfs(self._folder).f_frsize or 1
        room = sum(-(-entry.part.size // cluster) * cluster for entry in lacking)
        parts = (self._part(entry) for entry in lacking)
        check_room(
            self._folder,
            room - sum(part.stat().st_size for part in parts if part.is_file()),
            f"volume {label.number}",
        )
        if not self._incoming.is_dir():
            self._incoming.mkdir()
        if names := {name for entry in lacking for name in entry.path.split("/")}:
            check_names(self._incoming, names)
        labelled = self._folder / LABEL_PATH
        if lacking and labelled.exists():
            labelled.rename(self._folder / UNFINISHED_PATH)
        elif not labelled.exists():
            self._write_label(label)
        sync_folder(self._folder)
        name = f"volume {label.number} of {len(label.volumes)}"
        self._progress.begin(name, len(lacking), sum(entry.part.size for entry in lacking))

    def copy(self, batch: Sequence[Entry]) -> None:
        """Write these files, bring them to the medium, read them back, give them their names."""
        fd = os.open(self._incoming, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            digests = [self._write(entry) for entry in batch]
            sync_file_system(fd)
        finally:
            os.close(fd)
        for entry, wanted in zip(batch, digests, strict=True):
            self._copier.prove(entry.part, self._part(entry), wanted)
            self._name(entry)
            self._progress.item(entry.path)

    def finish(self) -> None:
        """Label the volume: everything on it was read back."""
        with suppress(FileNotFoundError):
            self._incoming.rmdir()
        for folder in sorted(self._folders):
            sync_folder(self._folder / folder)
        unfinished = self._folder / UNFINISHED_PATH
        if unfinished.exists():
            unfinished.rename(self._folder / LABEL_PATH)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    def _part(self, entry: Entry) -> Path:
        return self._incoming / f"{entry.number}.part"

    def _write_label(self, label: VolumeLabel) -> None:
        path = self._folder / UNFINISHED_PATH
        path.unlink(missing_ok=True)
        fd = create_part(path)
        try:
            os.write(fd, label_bytes(label))
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write(self, entry: Entry) -> str:
        return self._copier.write(entry.part, self._part(entry), self._blocks.get(entry.part.path, ()))

    def _name(self, entry: Entry) -> None:
        for folder in folders_of(entry.path):
            if folder not in self._folders:
                path = self._folder / folder
                if not path.is_dir():
                    path.mkdir()
                    set_mode(path, FOLDER_MODE)
                self._folders.add(folder)
        self._part(entry).rename(self._folder / entry.path)


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in portions that are brought to the medium together."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and (size + entry.part.size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.part.size
    if batch:
        yield batch


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep two runs off one volume; the lock ends with its process."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as fault:
        raise InProgress(f"another run is writing to {folder}", hint="wait for it") from fault
    finally:
        os.close(fd)


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything in a folder by its path there, following no link."""
    with os.scandir(folder / prefix) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, status in found:
        path = f"{prefix}/{name}" if prefix else name
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folder, path)
