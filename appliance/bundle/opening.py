"""One bundle as one tree of files, wherever it lies.

Whoever reads a bundle reads it through the interface below and does not ask how many media it came on.
What one folder holds is read by ``appliance.bundle.tree``, several volumes by ``appliance.bundle.volumes``.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from appliance.bundle.locating import find_folder, holds_trace, is_volume
from appliance.bundle.presence import gone, telling_pulled
from appliance.bundle.tree import Tree
from appliance.bundle.volume_rules import refuse_recovery
from appliance.bundle.volumes import VolumeTree
from appliance.errors import BundleUntrusted, Usage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    def trees(self) -> Sequence[Tree]:
        """The open folder on each medium."""

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
    places = [find_folder(folder) for folder in ([folders] if isinstance(folders, Path) else folders)]
    for place in places:
        refuse_recovery(place)
    match places:
        case []:
            raise Usage("no bundle is named", wanted="its folder, or the folders of all its volumes")
        case [folder] if holds_trace(folder) and not is_volume(folder):
            return Tree(folder)
        case _:
            return VolumeTree(places)


@contextmanager
def opened_again(folders: Path | Sequence[Path]) -> Iterator[BundleTree]:
    """A bundle that was verified before: where it is not there any more, its medium was pulled meanwhile.

    Raises:
        MediumFailed: naming the media that are gone; or one was pulled within the block.
        Usage, BundleUntrusted: as ``open_tree``, of media that are all there: they were changed.
    """
    try:
        opened = open_tree(folders)
    except (Usage, BundleUntrusted) as fault:
        places = [folders] if isinstance(folders, Path) else folders
        if lost := [str(place) for place in places if not _is_there(find_folder(place))]:
            raise gone(", ".join(lost), fault) from fault
        raise
    with opened as tree, telling_pulled(lambda: tree.trees):
        yield tree


def _is_there(folder: Path) -> bool:
    """Whether anything of a bundle lies in a folder, and its medium answers."""
    try:
        with Tree(folder) as tree:
            return holds_trace(folder) and tree.answers()
    except Usage:
        return False
