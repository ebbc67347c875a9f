"""Filling one volume: from an open bundle into a folder on a medium, proved by reading it back.

A file lies in ``incoming/<its number on the volume>.part`` until every byte of it was read back from
the medium, past the page cache, and has the signed digest.  Then it gets its name, and the label, which
is written first under another name, gets its own last of all.  So what has a name was right, a volume
without a label is incomplete, and a second run goes on where the first one stopped: a part that is left
is compared with the signed block digests, and only blocks that are wrong or missing are written.

What was right may have changed.  Files that have their names are read again by each run, and one that is
wrong becomes a part.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.durable import (
    FOLDER_MODE,
    sync_file_system,
    sync_folder,
)
from appliance.bundle.media.copying import FileCopier, create_part
from appliance.bundle.media.entries import batches
from appliance.bundle.media.filesystem import check_names, check_room, set_mode
from appliance.bundle.media.label import (
    INCOMING_FOLDER,
    LABEL_PATH,
    UNFINISHED_PATH,
    label_bytes,
)
from appliance.bundle.media.readback import BlockReader
from appliance.bundle.media.standing import find_named, find_wrong, is_label, part_path
from appliance.bundle.paths import folders_of
from appliance.bundle.plain_files import shown
from appliance.errors import InProgress, MediumFailed, MediumUnsuitable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.cargo import Cargo
    from appliance.bundle.media.entries import Entry
    from appliance.bundle.media.label import VolumeLabel
    from appliance.bundle.opening import BundleTree
    from appliance.progress import Progress


@dataclass(frozen=True, slots=True)
class Filled:
    """What filling a volume came to: bytes written, and bytes that were there and right.

    Both were read from the medium in this run.  ``mended`` are files that had their names and were wrong.
    """

    written: int
    kept: int
    mended: tuple[str, ...]


def fill_volume(
    tree: BundleTree,
    cargo: Cargo,
    entries: Sequence[Entry],
    *,
    label: VolumeLabel,
    folder: Path,
    progress: Progress,
) -> Filled:
    """Write what a volume still lacks, prove it, and label it; prove again what was there.

    Args:
        tree: the open bundle.
        cargo: the same bundle.
        entries: the volume's files.
        label: what its label shall say.
        folder: the volume's folder, which exists.
        progress: told of every block, in a phase for what was there and one for what is written; in the
            latter a byte counts by half when it is written, in full when it is read back.

    Raises:
        MediumOccupied: the folder holds files that are not the volume's.
        SpaceExhausted: the medium has too little room; nothing was written.
        MediumUnsuitable: it does not keep the volume's names, or something lacks and it is write-protected.
        MediumFailed: it gives other bytes back than were written.
        DigestMismatch: the bundle is damaged; what is wrong got no name on the medium.
        InProgress: another run fills this very volume.
        OSError: what the system said of the medium.
    """
    with alone(folder), BlockReader() as reader, tree.cursor() as cursor:
        filling = _Filling(cargo, folder, label, reader, progress)
        lacking, wrong = filling.survey(entries)
        copier = FileCopier(cursor, reader, progress)
        if lacking or not filling.is_labelled():
            filling.begin(lacking, wrong)
            try:
                for batch in batches(lacking):
                    filling.copy(batch, copier)
            finally:
                progress.end()
            filling.finish()
    kept = sum(entry.part.size for entry in entries) - copier.written
    return Filled(copier.written, kept, tuple(entry.path for entry in wrong))


class _Filling:
    """One run over one volume."""

    def __init__(
        self, cargo: Cargo, folder: Path, label: VolumeLabel, reader: BlockReader, progress: Progress
    ) -> None:
        self._cargo = cargo
        self._folder = folder
        self._label = label
        self._reader = reader
        self._progress = progress
        self._incoming = folder / INCOMING_FOLDER
        self._name = f"volume {label.number} of {len(label.volumes)}"
        self._blocks: Mapping[str, tuple[bytes, ...]] = {}
        self._folders: set[str] = set()

    def survey(self, entries: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The entries that must be written, and those of them that have their names and are wrong."""
        named = find_named(self._folder, entries)
        if not named:
            return list(entries), []
        self._progress.begin(
            f"{self._name}: what is there", len(named), sum(entry.part.size for entry in named)
        )
        try:
            wrong = find_wrong(self._folder, named, self._reader, self._progress)
        finally:
            self._progress.end()
        right = set(named) - set(wrong)
        return [entry for entry in entries if entry not in right], wrong

    def is_labelled(self) -> bool:
        """Whether the volume says that it is complete, and nothing is left of making it so."""
        labelled = is_label(self._folder / LABEL_PATH, self._label, self._reader)
        return labelled and not self._incoming.exists()

    def begin(self, lacking: Sequence[Entry], wrong: Sequence[Entry]) -> None:
        """See that the rest can be written; then a volume is incomplete until it is all there.

        A file that has its name and is wrong becomes a part again: only its wrong blocks are written.
        """
        self._require_writable(lacking)
        parts = self._parts()
        self._require_room(lacking, sum(parts.values()) + sum(self._size(entry) for entry in wrong))
        self._incoming.mkdir(exist_ok=True)
        if names := {name for entry in lacking for name in entry.path.split("/")}:
            check_names(self._incoming, names)
        labelled, unfinished = self._folder / LABEL_PATH, self._folder / UNFINISHED_PATH
        if labelled.exists():
            labelled.rename(unfinished)
        if not is_label(unfinished, self._label, self._reader):
            self._write_label(unfinished)
        sync_folder(self._folder)
        for entry in wrong:
            (self._folder / entry.path).replace(self._part(entry))
        parts = self._parts()
        mine = {self._part(entry).name: entry.part.path for entry in lacking}
        for name in parts.keys() - mine.keys():
            (self._incoming / name).unlink()  # of a file that a repair put in its place meanwhile
        if left := parts.keys() & mine.keys():
            self._blocks = self._cargo.block_digests({mine[name] for name in left})
        self._progress.begin(self._name, len(lacking), sum(entry.part.size for entry in lacking))

    def copy(self, batch: Sequence[Entry], copier: FileCopier) -> None:
        """Write these files, bring them to the medium, read them back, give them their names."""
        fd = os.open(self._incoming, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for entry in batch:
                copier.write(entry.part, self._part(entry), self._blocks.get(entry.part.path, ()))
            sync_file_system(fd)
        finally:
            os.close(fd)
        for entry in batch:
            copier.prove(entry.part, self._part(entry))
            self._give_name(entry)
            self._progress.item(entry.path)

    def finish(self) -> None:
        """Label the volume: everything on it was read back."""
        self._incoming.rmdir()
        for folder in sorted(self._folders):
            sync_folder(self._folder / folder)
        (self._folder / UNFINISHED_PATH).rename(self._folder / LABEL_PATH)
        sync_folder(self._folder)
        sync_folder(self._folder.parent)

    def _part(self, entry: Entry) -> Path:
        return self._folder / part_path(entry)

    def _parts(self) -> dict[str, int]:
        """The names in ``incoming``, with their sizes in bytes."""
        if not self._incoming.is_dir():
            return {}
        return {part.name: part.lstat().st_size for part in self._incoming.iterdir()}

    def _size(self, entry: Entry) -> int:
        return (self._folder / entry.path).lstat().st_size

    def _require_writable(self, lacking: Sequence[Entry]) -> None:
        if os.statvfs(self._folder).f_flag & os.ST_RDONLY:
            raise MediumUnsuitable(
                f"{self._name} in {self._folder} cannot be completed: the medium is write-protected",
                found=f"missing or wrong: {shown([entry.path for entry in lacking]) or LABEL_PATH}",
                wanted="a medium that can be written to",
                hint="open its write-protection and mount it again, then run the same command; or write "
                "this volume onto another one, with --like and --only",
            )

    def _require_room(self, lacking: Sequence[Entry], there: int) -> None:
        cluster = os.statvfs(self._folder).f_frsize or 1
        room = sum(-(-entry.part.size // cluster) * cluster for entry in lacking)
        check_room(self._folder, room - there, f"volume {self._label.number}")

    def _write_label(self, path: Path) -> None:
        """Write the label under the name it has until the end, and read it back.

        Raises:
            MediumFailed: it is not what was written.
        """
        path.unlink(missing_ok=True)
        fd = create_part(path)
        try:
            os.write(fd, label_bytes(self._label))
            os.fsync(fd)
        finally:
            os.close(fd)
        if not is_label(path, self._label, self._reader):
            raise MediumFailed(
                f"{path} does not read back as it was written",
                hint="the medium is worn out, or smaller than it claims to be: take another one",
            )

    def _give_name(self, entry: Entry) -> None:
        for folder in folders_of(entry.path):
            if folder not in self._folders:
                path = self._folder / folder
                if not path.is_dir():
                    path.mkdir()
                    set_mode(path, FOLDER_MODE)
                self._folders.add(folder)
        self._part(entry).rename(self._folder / entry.path)


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
