"""One bundle as one tree of files, wherever it lies.

Whoever reads a bundle reads it through the interface below and does not ask how many media it came on.
What one folder holds is read by ``appliance.bundle.tree``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from appliance.bundle.tree import Tree
from appliance.errors import Usage

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence
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


class BundleTree(Protocol):
    """The files of a bundle by their paths in it; to be used in a ``with`` statement.

    ``folder`` is named in messages; ``folders`` are all the folders it lies in.  Several threads may use
    one tree.  Nothing of it follows a link or opens anything but plain files.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def folders(self) -> tuple[Path, ...]: ...

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

    def place(self, path: str) -> str:
        """How a file is called in messages: its path, and the volume it lies on if there are several."""

    def open(self, path: str) -> AbstractContextManager[int]:
        """A descriptor for reading one file of the bundle.

        Raises:
            FileMissing, FileUnexpected: it is not there, or not a plain file.
            DigestMismatch: it cannot be read.
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
    """The bundle in these folders.

    Raises:
        Usage: a folder cannot be read, or several were given.
    """
    match [folders] if isinstance(folders, Path) else [*folders]:
        case [folder]:
            return Tree(folder)
        case several:
            raise Usage(
                "a bundle lies in one folder",
                found=", ".join(map(str, several)) or "none",
                wanted="the folder that holds manifest.json",
            )
