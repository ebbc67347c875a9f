"""One bundle as one tree of files, wherever it lies.

Whoever reads a bundle reads it through the interface below and does not ask how many media it came on.
What one folder holds is read by ``appliance.bundle.tree``, several volumes by ``appliance.bundle.volumes``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from appliance.bundle.locating import find_folder, is_volume
from appliance.bundle.media.label import RECOVERY_LABEL_PATH
from appliance.bundle.paths import LIST_PATH
from appliance.bundle.tree import Tree
from appliance.bundle.volumes import VolumeTree
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractContextManager


class Cursor(Protocol):
    """Opens files one after another, faster where one folder's files are asked for in a row.

    For one thread only.  What it finds is what lies there when it is asked: it looks no path up before,
    and remembers no folder longer than until a file of another one is opened.
    """

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor for reading, which the caller closes, and what is known of the file.

        Raises:
            FileMissing, FileUnexpected: it is not there, or not a plain file.
            DigestMismatch: it cannot be read.
        """

    def open_unseen(self, path: str) -> int:
        """A descriptor for reading of what may be no plain file: the caller looks, and closes it.

        Raises:
            OSError: it cannot be opened.
            FileMissing, FileUnexpected, DigestMismatch: nor can its folder.
        """


class BundleTree(Protocol):
    """The files of a bundle by their paths in it; to be used in a ``with`` statement.

    ``folder`` is named in messages; ``folders`` are all the folders it lies in.  Several threads may use
    one tree.  Nothing of it follows a link or opens anything but plain files.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def folders(self) -> tuple[Path, ...]: ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd but hinders nothing: labels of volumes that are damaged or contradict each other."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def names(self, folder: str, *, most: int) -> list[str]:
        """The names in one folder of the bundle, sorted.

        Raises:
            FileMissing: the folder is not there.
            FileUnexpected: it is a link or no folder, or holds more than ``most`` names.
        """

    def check_set(self, files: Collection[str]) -> Mapping[str, int]:
        """Refuse any other set of files than ``files``; returns their sizes in bytes.

        Raises:
            FileUnexpected: a file, folder, link, device … that is not wanted.
            FileMissing: a wanted file is not there.
        """

    def check_names(self, files: Collection[str], seen: Callable[[Sequence[int]], None]) -> None:
        """Refuse any other set of files than ``files`` by their names and kinds.

        Second names and special bits may be left to who opens the files.

        Args:
            files: what must be there.
            seen: told the numbers of files, ascending, that may be opened now: they are of the right kind.

        Raises:
            FileUnexpected, FileMissing: as ``check_set``.
        """

    def place(self, path: str) -> str:
        """How a file is called in messages: its path, and the volume it lies on if there are several."""

    def open(self, path: str) -> AbstractContextManager[int]:
        """A descriptor for reading one file of the bundle.

        Raises:
            FileMissing, FileUnexpected: it is not there, or not a plain file.
            DigestMismatch: it cannot be read.
        """

    def again(self, path: str) -> Callable[[], AbstractContextManager[int]]:
        """What opens a file of the bundle as ``open`` does, also when this tree is closed.

        What it opens then need not be the same file: the caller compares what he reads.
        """

    def read(self, path: str, *, limit: int) -> bytes:
        """The bytes of a small file.

        Raises:
            BundleMalformed: it has more than ``limit`` bytes.
            FileMissing, FileUnexpected, DigestMismatch: as ``open``.
        """

    def cursor(self) -> AbstractContextManager[Cursor]:
        """For opening many files in a row."""


def open_tree(folders: Path | Sequence[Path]) -> BundleTree:
    """The bundle in this folder, or on these volumes; each may be named by the medium it lies on.

    Raises:
        Usage: a folder cannot be read, is given twice, or is a medium that holds several bundles.
        BundleUntrusted: the folders are not volumes of one bundle; the subclass says why.
    """
    for folder in [folders] if isinstance(folders, Path) else folders:
        _refuse_recovery(folder)
    places = [find_folder(folder) for folder in ([folders] if isinstance(folders, Path) else folders)]
    match places:
        case []:
            raise Usage("no bundle is named", wanted="its folder, or the folders of all its volumes")
        case [folder] if not is_volume(folder):
            return Tree(folder)
        case _:
            return VolumeTree(places)


def _refuse_recovery(folder: Path) -> None:
    """Say what a recovery volume is to who takes it for a part of the bundle."""
    inner = sorted(folder.iterdir()) if folder.is_dir() else []
    marked = [each for each in (folder, *inner) if os.path.lexists(each / RECOVERY_LABEL_PATH)]
    if marked and (marked[0] == folder or not any(os.path.lexists(each / LIST_PATH) for each in inner)):
        raise Usage(
            f"{marked[0]} is a recovery volume",
            found="recovery data for the other volumes, and no part of the bundle",
            wanted="the volumes themselves",
            hint="leave it out; appliance media repair takes it where a volume is lost",
        )
