"""Checking media: one volume alone, some or all of them, in any order; every byte, from the medium.

Nothing is presumed but what is signed: which list is right is found among all its copies, and then each
volume is held against it.  Damage does not end the check: all of it is found and said at once.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.bundle.blocks import split_blocks
from appliance.bundle.fileset import children_of
from appliance.bundle.locating import find_folder, is_recovery, is_volume
from appliance.bundle.manifest import ListedFile
from appliance.bundle.media.checked import MISSING, DamagedFile, MediaCheck
from appliance.bundle.media.examine import bad_blocks, examine
from appliance.bundle.media.label import LABEL_PATH, SPARE_FOLDER
from appliance.bundle.media.layout import agreed_layout, bundle_order, is_shared_out
from appliance.bundle.media.readback import BlockReader, bring_to_medium
from appliance.bundle.media.recovery_check import RecoveryCheck
from appliance.bundle.media.seen import Seen, is_statement, names_on
from appliance.bundle.parity.copies import find_sound_copy
from appliance.bundle.paths import (
    BLOCKS_PATH,
    MANIFEST_PATH,
    TRUST_FOLDER,
    parity_number,
    signature_holder,
)
from appliance.bundle.presence import telling_pulled
from appliance.bundle.volume import name_by_contents, open_volume
from appliance.bundle.volume_rules import refuse_bare, refuse_same_folder
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.media.layout import Layout
    from appliance.bundle.parity.copies import SoundCopy
    from appliance.bundle.volume import Volume
    from appliance.progress import Progress
    from appliance.trust.documents import SignedDocument


def check_media(
    folders: Sequence[Path],
    *,
    root: bytes | None,
    progress: Progress,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
    workers: int | None = None,
) -> MediaCheck:
    """Check what these volumes hold; changes nothing.

    Args:
        folders: volumes of one bundle and recovery volumes, or the media they lie on; or a plain bundle.
        root: the bytes of the root that is trusted; None to compare digests only.
        progress: told of every block and file.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; they count where there is a root.
        workers: how many media are read at a time; all if None.

    Raises:
        Usage: a folder cannot be read, or is given twice.
        VolumesMixed: they are of several bundles.
        MediumFailed: a medium was pulled before anything was read of it.
        FileMissing, VolumeMissing: nothing of a bundle lies in a folder, or nothing yet.
        BundleUntrusted: nothing there can be held against anything: no sound list or manifest, or not
            signed as the root wants.
    """
    with ExitStack() as stack:
        volumes = [stack.enter_context(open_volume(find_folder(folder))) for folder in folders]
        stack.enter_context(telling_pulled(lambda: [volume.tree for volume in volumes]))
        refuse_same_folder(volumes)
        refuse_bare(volumes)
        for volume in volumes:
            _bring_to_medium(volume.folder)
        sound = find_sound_copy(volumes, root, role, revocations)
        for volume in volumes:
            volume.believe(sound.digest)
        return _Check(volumes, sound, progress).run(workers)


class _Check:
    """One check of volumes that are open, against what they should hold."""

    def __init__(self, volumes: Sequence[Volume], sound: SoundCopy, progress: Progress) -> None:
        self._volumes = [volume for volume in volumes if not is_recovery(volume.folder)]
        self._sound = sound
        self._progress = progress
        listed = sound.files.items()
        self._shared = {path: file for path, file in listed if is_shared_out(path)}
        self._everywhere = {path: file for path, file in listed if not is_shared_out(path)}
        for path, data in sound.unlisted.items():
            self._everywhere[path] = ListedFile(hashlib.sha256(data).hexdigest(), len(data))
        self._spare = {
            f"{SPARE_FOLDER}/{path}": file
            for path, file in self._everywhere.items()
            if path == MANIFEST_PATH or path.startswith(f"{TRUST_FOLDER}/")
        }
        self._recovery = [
            RecoveryCheck(volume, sound, self._spare) for volume in volumes if is_recovery(volume.folder)
        ]

    def run(self, workers: int | None) -> MediaCheck:
        """Look what lies where, read all of it, and say what is wrong or not there."""
        seen = self._look()
        where = {path: one.volume for one in reversed(seen) for path in one.present if path in self._shared}
        layout = agreed_layout(volume.label for volume in self._volumes if volume.label)
        for volume in self._volumes:
            volume.call(layout, volume.label.number if volume.label else None)
        given = name_by_contents(self._volumes, layout, where)
        if len(seen) == 1 and not is_volume(seen[0].volume.folder):
            seen[0].volume.number = 1  # a plain folder is the whole bundle
            given = {1}
        missing = self._missing(where, layout, given)
        self._read(seen, workers)
        for one in seen:
            if lost := missing.get(one.volume.number) if one.volume.number in given else None:
                if not one.volume.unfinished:
                    one.damaged += [DamagedFile(path, MISSING) for path in lost]
                del missing[one.volume.number]
            one.find_out_whether_gone()
        copies = {
            one.volume.name: other.name
            for one in seen
            for path in one.present
            if (other := where.get(path, one.volume)) is not one.volume
        }
        return self._result(seen, layout, missing, copies)

    def _look(self) -> list[Seen]:
        wanted = {**self._everywhere, **self._shared, **self._spare}
        children = children_of([*wanted, LABEL_PATH])
        seen = []
        for volume in self._volumes:
            names, strange = names_on(volume, children)
            present = sorted(names & wanted.keys(), key=bundle_order)
            one = Seen(volume, {path: wanted[path] for path in present})
            for path in strange:
                if is_statement(path):
                    one.damaged.append(DamagedFile(path, "no copy of it verifies"))
                else:
                    one.strange.append(path)
            if not volume.unfinished:
                one.damaged += [DamagedFile(path, MISSING) for path in self._everywhere.keys() - names]
            seen.append(one)
        return seen

    def _missing(
        self, where: Mapping[str, Volume], layout: Layout | None, given: Collection[int]
    ) -> dict[int | None, list[str]]:
        """The files that lie nowhere, by the number of the volume that should hold them."""
        missing = sorted((path for path in self._shared if path not in where), key=bundle_order)
        if layout:
            return dict(layout.volumes_of(missing).items())
        return {next(iter(given), None): missing} if missing else {}

    def _read(self, seen: Sequence[Seen], workers: int | None) -> None:
        """Compare every file that is there; adds what is damaged.

        Each medium is read by one thread, in order: sticks and disks are fastest so.
        """
        size = sum(file.size for one in seen for file in one.present.values())
        files = sum(len(one.present) for one in seen) + sum(each.files for each in self._recovery)
        self._progress.begin("check", files, size + sum(each.size for each in self._recovery))
        stop = threading.Event()
        with ThreadPoolExecutor(workers or len(seen) + len(self._recovery)) as pool:
            try:
                reading = [pool.submit(self._compare, one, stop) for one in seen]
                reading += [pool.submit(each.read, self._progress, stop) for each in self._recovery]
                for ended in as_completed(reading):
                    ended.result()
            finally:
                stop.set()
                pool.shutdown(cancel_futures=True)
                self._progress.end()
        blocks = self._block_digests({damage.path for one in seen for damage in one.damaged})
        for one in seen:
            with BlockReader() as reader:
                for place, damage in enumerate(one.damaged):
                    if wanted := one.present.get(damage.path):
                        digests = blocks.get(damage.path, ())
                        bad = bad_blocks(one.volume, damage.path, wanted.size, digests, reader)
                        one.damaged[place] = replace(damage, bad=bad)

    def _compare(self, one: Seen, stop: threading.Event) -> None:
        """Compare the files of one medium, as long as it is there; adds what is damaged."""
        with BlockReader() as reader:
            for path, wanted in one.present.items():
                if stop.is_set():
                    return
                if damage := examine(one.volume, path, wanted, reader, self._progress):
                    one.damaged.append(damage)
                    if not damage.was_read and one.find_out_whether_gone():
                        return

    def _block_digests(self, paths: Collection[str]) -> Mapping[str, tuple[bytes, ...]]:
        """Of these files the digests of their blocks, as far as a sound index is there."""
        data = self._sound.contents.get(BLOCKS_PATH)
        if data is None or not paths:
            return {}
        return {path: found for path, found in split_blocks(self._sound.manifest, data) if path in paths}

    def _result(
        self,
        seen: Sequence[Seen],
        layout: Layout | None,
        absent: Mapping[int | None, list[str]],
        copies: Mapping[str, str],
    ) -> MediaCheck:
        manifest = self._sound.manifest
        names = (path.rpartition("/")[2] for path in self._sound.unlisted)
        notes = [volume.note for volume in self._volumes if volume.note and is_volume(volume.folder)]
        return MediaCheck(
            digest=self._sound.digest,
            product=manifest.product,
            version=manifest.version,
            holders=tuple(
                sorted(holder for name in names if (holder := signature_holder(name, self._sound.kind)))
            ),
            signers=self._sound.signers,
            volumes=tuple(one.checked() for one in seen),
            absent={number: tuple(paths) for number, paths in absent.items()},
            parity=self._parity(seen, {path for paths in absent.values() for path in paths}),
            layout=layout,
            notes=(*self._sound.notes, *self._sound.hopeless.values(), *notes),
            recovery=tuple(each.checked() for each in self._recovery),
            copies=copies,
        )

    def _parity(self, seen: Sequence[Seen], absent: Collection[str]) -> Mapping[str, str]:
        damaged = {damage.path for one in seen for damage in one.damaged}
        return {
            path: "absent" if path in absent else "damaged" if path in damaged else "sound"
            for path in sorted(self._shared)
            if parity_number(path) is not None
        }


def _bring_to_medium(folder: Path) -> None:
    try:
        bring_to_medium(folder)
    except OSError as fault:
        raise DigestMismatch(
            f"what was written to {folder} could not be brought to the medium",
            found=fault.strerror,
            hint="the medium is worn out or was pulled: write it again",
        ) from fault
