"""Making a damaged parity file again: nothing covers it, but its bytes follow from what it covers."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import free_bytes, writing_under
from appliance.bundle.parity.creating import write_canonical
from appliance.bundle.parity.program import Share, create_parity, find_par2
from appliance.bundle.parity.sets import covered, divide
from appliance.bundle.paths import parity_number
from appliance.errors import SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from appliance.bundle.manifest import Manifest
    from appliance.bundle.parity.sets import ParitySet
    from appliance.progress import Progress

_PERCENTAGES: Final = range(1, 11)


def remake_parity(
    path: str, manifest: Manifest, sound: Mapping[str, Path], work: Path, progress: Progress
) -> Path | None:
    """Make a parity file of the bundle again; None if a file it covers is not at hand.

    Args:
        path: the parity file's, in the bundle.
        manifest: says which files there are, and how large the parity file is.
        sound: where a sound copy of each file lies, by its path in the bundle.
        work: an empty folder of ours.
        progress: told of the work, as a phase of its own.

    Raises:
        SpaceExhausted: the work folder's disk is too small.
        ParityFailed: par2 failed.
    """
    listed = manifest.files[path]
    for parity in _candidates(path, manifest):
        if any(member.path not in sound for member in parity.members):
            return None
        base = _base(parity, sound) or _gather(parity, sound, work / "files")
        making = work / "making"
        target = work / parity.path.replace("/", "-")
        progress.begin("parity", 1, parity.size)
        try:
            with writing_under(work):
                making.mkdir()
                told = Share(parity.size, progress)
                create_parity(find_par2(), base.resolve(), parity, making.resolve() / "set.par2", told)
                made = write_canonical(sorted(making.iterdir()), target, parity)
                shutil.rmtree(making)
        finally:
            progress.end()
        if made == listed:
            return target
        target.unlink()
    return None


def _candidates(path: str, manifest: Manifest) -> Iterator[ParitySet]:
    """The sets this file may be of: the percentage is known by the number of sets and their sizes only."""
    number = parity_number(path)
    count = sum(parity_number(each) is not None for each in manifest.files)
    members = tuple(covered(manifest))
    size = manifest.files[path].size
    for percent in _PERCENTAGES:
        sets = divide(members, percent)
        if len(sets) == count and number is not None:
            parity = sets[number]
            if parity.recovery * parity.block_size < size <= parity.parity_size:
                yield parity


def _base(parity: ParitySet, sound: Mapping[str, Path]) -> Path | None:
    """The one folder in which all members lie under their own paths, if there is one."""
    first = parity.members[0].path
    folder = sound[first]
    for _ in first.split("/"):
        folder = folder.parent
    together = all(sound[member.path] == folder / member.path for member in parity.members)
    return folder if together else None


def _gather(parity: ParitySet, sound: Mapping[str, Path], base: Path) -> Path:
    """Copy the members together: par2 makes parity of plain files under one folder only."""
    if (free := free_bytes(base.parent)) < parity.size:
        raise SpaceExhausted(
            f"too little room to work in {base.parent}",
            found=f"{free:,} bytes free",
            wanted=f"{parity.size:,} bytes",
            hint="name a folder with more room with --work; run the command again",
        )
    for member in parity.members:
        target = base / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sound[member.path], target)
    return base
