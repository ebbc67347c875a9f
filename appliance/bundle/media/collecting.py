"""Collecting a bundle from its volumes in a hidden folder, until everything is there.

Files that have their names there are right.  One that was cut off lies under ``incoming/`` by its number in
the bundle's order, and only its blocks that are wrong or missing are read again.  A file that is damaged on
one volume is taken from another that has it; else it is left out and named, so that everything else is
collected and can serve to mend it.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from appliance.bundle.blocks import split_blocks
from appliance.bundle.durable import FOLDER_MODE, replace_file, sync_file_system, sync_folder
from appliance.bundle.fileset import children_of
from appliance.bundle.locating import find_folder
from appliance.bundle.media.cargo import Part
from appliance.bundle.media.copying import FileCopier
from appliance.bundle.media.entries import Entry, batches
from appliance.bundle.media.filesystem import check_room, set_mode
from appliance.bundle.media.label import INCOMING_FOLDER
from appliance.bundle.media.lacking import AGAIN, StillLacking
from appliance.bundle.media.layout import bundle_order, is_shared_out
from appliance.bundle.media.readback import BlockReader
from appliance.bundle.media.seen import names_on
from appliance.bundle.parity.copies import find_sound_copy
from appliance.bundle.paths import BLOCKS_PATH, LIST_PATH, folders_of
from appliance.bundle.tree import Tree
from appliance.bundle.volume import open_volume
from appliance.bundle.volume_rules import (
    refuse_bare,
    refuse_recovery,
    refuse_same_folder,
)
from appliance.errors import (
    ApplianceError,
    BundleUntrusted,
    DigestMismatch,
    FileMissing,
    MediumFailed,
    PreflightFailed,
    Usage,
    VolumesMixed,
)
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.volume import Volume
    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument


@dataclass(frozen=True, slots=True)
class Lacking:
    """What is still to be inserted: ``wanted`` for people, and why the last medium did not help."""

    wanted: str
    problem: ApplianceError | None


class Ask(Protocol):
    """Has somebody insert another volume; returns where it lies."""

    def __call__(self, lacking: Lacking) -> Path: ...


@dataclass(frozen=True, slots=True)
class Joined:
    """A bundle that is complete: where, how many bytes were copied now, and how many in earlier runs."""

    folder: Path
    digest: str
    product: str
    version: str
    signers: tuple[str, ...]
    files: int
    copied: int
    kept: int


@dataclass
class Collecting:
    """A bundle while it is collected in the folder ``partial``."""

    out: Path
    partial: Path
    root: bytes | None
    role: str
    progress: Progress
    revocations: Sequence[SignedDocument] = ()
    copied: int = 0
    kept: int = 0
    _sound: SoundCopy | None = None
    _lacking: StillLacking = field(init=False)

    def __post_init__(self) -> None:
        self._lacking = StillLacking(self.partial)

    @property
    def complete(self) -> bool:
        """Whether everything is there."""
        return not self._lacking

    def fault(self) -> BundleUntrusted:
        """Why it is not."""
        return self._lacking.fault()

    def take_another(self, ask: Ask) -> None:
        """Have a volume inserted, again until one helps."""
        problem: ApplianceError | None = self.fault() if self._lacking.is_somebody_s_fault else None
        while True:
            before = len(self._lacking)
            folder = ask(Lacking(self._lacking.wanted(), problem))
            try:
                self.take([folder])
            except (BundleUntrusted, PreflightFailed, Usage) as fault:
                problem = fault
                continue
            if len(self._lacking) < before:
                return
            problem = (
                self.fault()
                if self._lacking.last_was_begun_only
                else Usage(f"nothing that is still missing lies at {folder}", wanted=self._lacking.wanted())
            )

    def take(self, folders: Sequence[Path]) -> None:
        """Copy from these volumes what is missing."""
        with ExitStack() as stack:
            places = [find_folder(folder) for folder in folders]
            for place in places:
                refuse_recovery(place)
            volumes = [stack.enter_context(open_volume(place)) for place in places]
            refuse_same_folder(volumes)
            refuse_bare(volumes)
            sound = find_sound_copy(volumes, self.root, self.role, self.revocations)
            if self._sound is None:
                self._begin(sound)
            elif self._sound.digest != sound.digest:
                raise VolumesMixed(
                    f"{volumes[0].folder} is a volume of another bundle",
                    found=f"bundle {sound.digest}",
                    wanted=f"bundle {self._sound.digest}",
                    hint="insert a volume of the bundle that was begun",
                )
            for volume in volumes:
                volume.believe(sound.digest)
            self._lacking.learn(volumes)
            self._copy_small(sound)
            self._copy_shared(volumes, sound, stack)

    def _begin(self, sound: SoundCopy) -> None:
        """Learn what the bundle is, and what of it an earlier run has copied."""
        self._sound = sound
        listing = self.partial / LIST_PATH
        if listing.exists() and listing.read_bytes() != sound.listing:
            raise Usage(
                f"{self.partial} was begun with another bundle",
                wanted=f"bundle {sound.digest}",
                hint="remove that folder, or name another with --out",
            )
        shared = sorted(filter(is_shared_out, sound.files), key=bundle_order)
        for number, path in enumerate(shared):
            file = sound.files[path]
            if _size(self.partial / path) == file.size:
                self.kept += file.size
            else:
                self._lacking.files[path] = Entry(number, path, Part(path, file.size, file.sha256))
        small = [path for path in sound.files if not is_shared_out(path)]
        small += sound.unlisted
        self._lacking.small = {path: None for path in small if not (self.partial / path).exists()}
        there = sum(_size(part) or 0 for part in (self.partial / INCOMING_FOLDER).glob("*.part"))
        size = sum(entry.part.size for entry in self._lacking.files.values())
        check_room(self.out.parent, max(0, size - there), "the joined bundle")

    def _copy_small(self, sound: SoundCopy) -> None:
        """Write the root files of which a sound copy is at hand."""
        at_hand = {**sound.contents, **sound.unlisted}
        for path in [path for path in self._lacking.small if path in at_hand]:
            self._make_folders(path)
            replace_file(self.partial / path, at_hand[path])
            del self._lacking.small[path]

    def _copy_shared(self, volumes: Sequence[Volume], sound: SoundCopy, stack: ExitStack) -> None:
        holders: dict[str, list[Volume]] = {}
        children = children_of(list(self._lacking.files))
        for volume in volumes:
            names, _ = names_on(volume, children)
            for path in names:
                holders.setdefault(path, []).append(volume)
        here = [self._lacking.files[path] for path in sorted(holders, key=bundle_order)]
        if not here:
            return
        incoming = self.partial / INCOMING_FOLDER
        incoming.mkdir(exist_ok=True)
        left = {entry.path for entry in here if (incoming / f"{entry.number}.part").exists()}
        blocks = _block_digests(sound, left)
        self.progress.begin("join", len(here), sum(entry.part.size for entry in here))
        reader = stack.enter_context(BlockReader())
        try:
            for batch in batches(here):
                done: list[Entry] = []
                try:  # what was copied before a medium is pulled gets its name
                    done.extend(entry for entry in batch if self._copy(entry, holders, blocks, reader))
                finally:
                    self._name(done)
        finally:
            self.progress.end()

    def _copy(
        self,
        entry: Entry,
        holders: Mapping[str, Sequence[Volume]],
        blocks: Mapping[str, tuple[bytes, ...]],
        reader: BlockReader,
    ) -> bool:
        """Copy one file from the first volume on which it is right; False if there is none."""
        part = self.partial / INCOMING_FOLDER / f"{entry.number}.part"
        for volume in holders[entry.path]:
            told = _Told(self.progress)
            try:
                with volume.tree.cursor() as cursor:
                    copier = FileCopier(cursor, reader, told)
                    copier.write(entry.part, part, blocks.get(entry.path, ()), judge=True)
            except (DigestMismatch, FileMissing) as fault:
                _require_medium(volume, fault)
                fault.message = f"{volume.name}: {fault.message}"
                self._lacking.damaged[entry.path] = _as_damage(fault)
                self.progress.advance(-told.bytes)  # the next copy tells them again
                continue
            self.copied += copier.written
            self.kept += entry.part.size - copier.written
            self.progress.advance(entry.part.size - entry.part.size // 2)
            self._lacking.damaged.pop(entry.path, None)
            return True
        return False

    def _name(self, done: Sequence[Entry]) -> None:
        """Bring files to the disk, then give them their names."""
        fd = os.open(self.partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync_file_system(fd)
        finally:
            os.close(fd)
        for entry in done:
            self._make_folders(entry.path)
            (self.partial / INCOMING_FOLDER / f"{entry.number}.part").rename(self.partial / entry.path)
            del self._lacking.files[entry.path]
            self.progress.item(entry.path)

    def _make_folders(self, path: str) -> None:
        for folder in folders_of(path):
            if not (self.partial / folder).is_dir():
                (self.partial / folder).mkdir()
                set_mode(self.partial / folder, FOLDER_MODE)

    def finish(self) -> Joined:
        """Give the complete bundle its name."""
        sound = self._sound
        if sound is None:
            raise RuntimeError("a volume was taken before")
        incoming = self.partial / INCOMING_FOLDER
        if incoming.is_dir():
            for part in incoming.glob("*.part"):
                part.unlink()  # of a file that was mended in its place meanwhile
            incoming.rmdir()
        with Tree(self.partial) as tree:
            tree.check_set([*sound.files, *sound.unlisted])
        for folder, _, _ in os.walk(self.partial, topdown=False):
            sync_folder(self.partial.__class__(folder))
        set_mode(self.partial, FOLDER_MODE)
        self.partial.rename(self.out)
        sync_folder(self.out.parent)
        return Joined(
            folder=self.out,
            digest=sound.digest,
            product=sound.manifest.product,
            version=sound.manifest.version,
            signers=sound.signers,
            files=len(sound.files),
            copied=self.copied,
            kept=self.kept,
        )


class _Told(Silent):
    """Passes on how many bytes are done, and counts them."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.bytes = 0

    def advance(self, count: int) -> None:
        self.bytes += count
        self._progress.advance(count)


def _block_digests(sound: SoundCopy, paths: set[str]) -> Mapping[str, tuple[bytes, ...]]:
    """The digests of the blocks of files that were cut off; without the index they are copied anew."""
    data = sound.contents.get(BLOCKS_PATH)
    if not paths or data is None:
        return {}
    return {path: found for path, found in split_blocks(sound.manifest, data) if path in paths}


def _require_medium(volume: Volume, fault: BundleUntrusted) -> None:
    """Tell damage from a medium that is not there any more."""
    try:
        volume.tree.names("", most=1 << 20)
    except BundleUntrusted:
        raise MediumFailed(
            f"{volume.name} cannot be read any more: pulled out, or broken",
            found=fault.found or fault.message,
            hint=f"put it in and mount it again; {AGAIN}",
        ) from fault


def _as_damage(fault: DigestMismatch | FileMissing) -> DigestMismatch:
    return fault if isinstance(fault, DigestMismatch) else DigestMismatch(fault.message, found=fault.found)


def _size(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None
