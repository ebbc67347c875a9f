"""What of a volume lies in its folder already, and whether it is still right.

A name proves nothing: since a file got it, the medium may have decayed, or somebody may have changed it.
So every file that has its name is read again past the page cache and judged as ``media check`` judges it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from appliance.bundle.manifest import ListedFile
from appliance.bundle.media.examine import examine
from appliance.bundle.media.label import INCOMING_FOLDER, LABEL_PATH, UNFINISHED_PATH, label_bytes
from appliance.bundle.media.readback import bring_to_medium, open_uncached
from appliance.bundle.paths import folders_of
from appliance.bundle.tree import Tree
from appliance.bundle.volume import Volume
from appliance.errors import MediumOccupied

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.bundle.media.entries import Entry
    from appliance.bundle.media.label import VolumeLabel
    from appliance.bundle.media.readback import BlockReader
    from appliance.progress import Progress

_NAMES_SHOWN: Final = 10


def part_path(entry: Entry) -> str:
    """Where a file of a volume lies until it was read back."""
    return f"{INCOMING_FOLDER}/{entry.number}.part"


def find_named(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that have their names; what they hold is not looked at.

    Raises:
        MediumOccupied: the folder holds what is not of the volume.
    """
    wanted = {entry.path for entry in entries}
    folders = {parent for path in wanted for parent in folders_of(path)} | {INCOMING_FOLDER}
    known = wanted | {part_path(entry) for entry in entries} | {LABEL_PATH, UNFINISHED_PATH}
    there, strange = set(), []
    for path, status in _walk(folder):
        if path in folders if stat.S_ISDIR(status.st_mode) else path in known and _is_plain(status):
            there.add(path)
        else:
            strange.append(path)
    if strange:
        raise MediumOccupied(
            f"{folder} holds what is not of this volume",
            found=", ".join(ascii(path)[1:-1] for path in sorted(strange)[:_NAMES_SHOWN]),
            wanted="only plain files, and those that this volume has",
            hint="look at these, remove them yourself, and run the same command again",
        )
    return [entry for entry in entries if entry.path in there]


def find_wrong(
    folder: Path, named: Sequence[Entry], reader: BlockReader, progress: Progress
) -> list[Entry]:
    """Those of the entries that do not hold what was signed, or cannot be read to their end.

    Args:
        folder: the volume's.
        named: entries that have their names.
        reader: reads blocks.
        progress: told of every block, in a phase that was begun.

    Raises:
        OSError: what was written before could not be brought to the medium.
    """
    bring_to_medium(folder)
    with Tree(folder) as tree:
        volume = Volume(folder, tree, None)
        return [
            entry
            for entry in named
            if examine(volume, entry.path, _listed(entry), reader, progress) is not None
        ]


def is_label(path: Path, label: VolumeLabel, reader: BlockReader) -> bool:
    """Whether the medium has this label at ``path``, byte for byte."""
    try:
        with open_uncached(path) as fd:
            [(_, data)] = reader.blocks(fd, [0])  # a label is shorter than a block
            return data == label_bytes(label)
    except OSError:
        return False  # it is not there, or cannot be read: it will be written anew


def _listed(entry: Entry) -> ListedFile:
    return ListedFile(entry.part.sha256, entry.part.size)


def _is_plain(status: os.stat_result) -> bool:
    """Whether it is a file that may be written to: under one name, so that no other changes with it."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1


def _walk(folder: Path, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """Everything in a folder by its path there, following no link."""
    with os.scandir(folder / prefix) as entries:
        found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    for name, status in found:
        path = f"{prefix}/{name}" if prefix else name
        yield path, status
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(folder, path)
