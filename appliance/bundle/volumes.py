"""Several volumes of a bundle as one tree: what lies where is found by looking.

The signed list judges; a label is believed in nothing but the names of volumes.  So a damaged label, or
two that were swapped, hinder nobody who has all the files: it is noted.  What the program goes on to use
is read from one volume.  The further copies, root files on the other volumes and those under ``spare/``,
are compared with it byte for byte, so that every medium holds the bundle and nothing else.
"""

from __future__ import annotations

from array import array
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

from appliance.bundle.copies import Copy, compare_copies
from appliance.bundle.fileset import Sizes, children_of
from appliance.bundle.media.label import LABEL_PATH, MAX_VOLUMES, SPARE_FOLDER
from appliance.bundle.media.layout import agreed_layout, is_shared_out
from appliance.bundle.paths import MANIFEST_PATH, TRUST_FOLDER, folders_of
from appliance.bundle.volume import Volume, name_by_contents, open_volume
from appliance.bundle.volume_rules import (
    COPY_AGAIN,
    common_digest,
    refuse_bare,
    refuse_empty,
    refuse_lacking,
    refuse_missing,
    refuse_same_folder,
    refuse_twice,
    refuse_unfinished,
)
from appliance.errors import Usage

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from appliance.bundle.fileset import Children
    from appliance.bundle.plain_files import FolderCursor
    from appliance.bundle.tree import Tree


class VolumeTree:
    """The open volumes of one bundle; a ``BundleTree``, to be used in a ``with`` statement.

    Args:
        folders: one folder for each volume given, in any order.

    Raises:
        Usage: a folder cannot be read, is given twice, or there are more than any bundle has.
        FileMissing, FileUnexpected, DigestMismatch: a volume has no readable list.
        VolumesMixed: they are of different bundles.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        if len(folders) > MAX_VOLUMES:
            raise Usage("too many volumes", found=str(len(folders)), wanted=f"at most {MAX_VOLUMES}")
        self._where: dict[str, Volume] = {}
        with ExitStack() as stack:
            self._volumes = [stack.enter_context(open_volume(folder)) for folder in folders]
            refuse_same_folder(self._volumes)
            refuse_bare(self._volumes)
            refuse_unfinished(self._volumes)
            digest = common_digest(self._volumes)
            for volume in self._volumes:
                volume.believe(digest)
            self._open = stack.pop_all()
        labels = [volume.label for volume in self._volumes if volume.label]
        self._layout = agreed_layout(labels)
        self._contradiction = bool(labels) and self._layout is None
        for volume in self._volumes:
            volume.call(self._layout, volume.label.number if volume.label else None)

    @property
    def folder(self) -> Path:
        """The first volume's."""
        return self._volumes[0].folder

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the volumes lie."""
        return tuple(volume.folder for volume in self._volumes)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The folder of each volume."""
        return tuple(volume.tree for volume in self._volumes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd about the labels; it hinders nothing."""
        notes = [volume.note for volume in self._volumes if volume.note]
        if self._contradiction:
            notes.append("the volumes' labels contradict each other; volumes are called by their folders")
        return tuple(notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def names(self, folder: str, *, most: int) -> list[str]:
        """The names in one folder, on any of the volumes; ``check_set`` wants them on all."""
        names: set[str] = set()
        for volume in self._volumes:
            with volume.named():
                names.update(volume.tree.names(folder, most=most))
        return sorted(names)

    def check_set(self, files: Collection[str]) -> Mapping[str, int]:
        """Refuse any other set of files than ``files`` over all volumes; returns their sizes in bytes.

        Raises:
            FileUnexpected: what is not wanted, or an empty folder.
            FileMissing, VolumeMissing: a wanted file is not there; naming the volumes that are not given.
            VolumesMixed: a file lies on two volumes.
            DigestMismatch: a further copy of a root file differs from the first.
        """
        everywhere = [path for path in files if not is_shared_out(path)]
        spare = _spare_copies(everywhere)
        wanted = children_of([*files, *spare, LABEL_PATH])
        sizes = array("q", [-1]) * len(wanted.files)
        twice: dict[tuple[Volume, Volume], list[str]] = {}
        spares: list[tuple[Volume, str]] = []
        for volume in self._volumes:
            small, holding = self._look(volume, wanted, sizes, twice)
            refuse_lacking(volume, everywhere, small)
            refuse_empty(volume, holding)
            spares += [(volume, path) for path in spare if path in small]
        refuse_twice(twice)
        given = name_by_contents(self._volumes, self._layout, self._where)
        missing = [wanted.files[number] for number in range(len(files)) if sizes[number] < 0]
        refuse_missing(self._layout, missing, given)
        self._compare(everywhere, spares)
        return Sizes(wanted.files[: len(files)], sizes[: len(files)])

    def check_names(self, files: Collection[str], seen: Callable[[Sequence[int]], None]) -> None:
        """As ``check_set``: what lies where is to be known before anything is opened."""
        self.check_set(files)
        seen(range(len(files)))

    def _look(
        self,
        volume: Volume,
        wanted: Children,
        sizes: array[int],
        twice: dict[tuple[Volume, Volume], list[str]],
    ) -> tuple[set[str], dict[str, bool]]:
        """Look what lies on a volume; adds to ``sizes``, to ``twice`` and to what is known of where.

        Returns:
            the files that are not of a share, and each folder with whether a file lies below it.
        """
        small: set[str] = set()
        parents: set[str] = set()

        def keep(number: int, size: int) -> None:
            path = wanted.files[number]
            sizes[number] = size
            parents.add(path.rpartition("/")[0])
            if not is_shared_out(path):
                small.add(path)
            elif (other := self._where.setdefault(path, volume)) is not volume:
                twice.setdefault((other, volume), []).append(path)

        with volume.named():
            folders = volume.tree.survey(wanted, keep)
        holding = {*parents, *(folder for parent in parents for folder in folders_of(parent))}
        return small, {folder: folder in holding for folder in folders if folder}

    def place(self, path: str) -> str:
        """A file's path and the volume it lies on."""
        return f"{path} on {self._holder(path).name}" if len(self._volumes) > 1 else path

    @contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A descriptor for reading one file of the bundle, from the volume that holds it."""
        volume = self._holder(path)
        with ExitStack() as stack:
            with volume.named():
                fd = stack.enter_context(volume.tree.open(path))
            yield fd

    def again(self, path: str) -> Callable[[], AbstractContextManager[int]]:
        """What opens a file as ``open`` does, also when this tree is closed."""
        volume = self._holder(path)
        open_file = volume.tree.again(path)

        @contextmanager
        def open_again() -> Iterator[int]:
            with ExitStack() as stack:
                with volume.named():
                    fd = stack.enter_context(open_file())
                yield fd

        return open_again

    def read(self, path: str, *, limit: int) -> bytes:
        """The bytes of a small file."""
        volume = self._holder(path)
        with volume.named():
            return volume.tree.read(path, limit=limit)

    @contextmanager
    def cursor(self) -> Iterator[VolumeCursor]:
        """For opening many files in a row; for one thread."""
        with ExitStack() as stack:
            yield VolumeCursor(self._holder, stack)

    def _holder(self, path: str) -> Volume:
        """The volume a file is read from: the one that holds it, or the first that has it."""
        if volume := self._where.get(path):
            return volume
        return next((volume for volume in self._volumes if volume.has(path)), self._volumes[0])

    def _compare(self, everywhere: Sequence[str], spares: Sequence[tuple[Volume, str]]) -> None:
        """Refuse a further copy that differs from the first volume's."""
        first = self._volumes[0]
        copies = [Copy(path, volume, path) for volume in self._volumes[1:] for path in everywhere]
        copies += [Copy(path.removeprefix(f"{SPARE_FOLDER}/"), volume, path) for volume, path in spares]
        compare_copies(first, copies, hint=COPY_AGAIN)


class VolumeCursor:
    """Opens files one after another, wherever they lie; for one thread."""

    def __init__(self, holder: Callable[[str], Volume], stack: ExitStack) -> None:
        self._holder = holder
        self._stack = stack
        self._cursors: dict[Path, FolderCursor] = {}

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor for reading, which the caller closes, and what is known of the file."""
        volume = self._holder(path)
        with volume.named():
            return self._cursor(volume).open(path)

    def open_unseen(self, path: str) -> int:
        """A descriptor for reading of what may be no plain file; the caller looks, and closes it."""
        volume = self._holder(path)
        with volume.named():
            return self._cursor(volume).open_unseen(path)

    def _cursor(self, volume: Volume) -> FolderCursor:
        if volume.folder not in self._cursors:
            self._cursors[volume.folder] = self._stack.enter_context(volume.tree.cursor())
        return self._cursors[volume.folder]


def _spare_copies(paths: Iterable[str]) -> list[str]:
    """Where second copies may lie: of what parity cannot mend."""
    kept = (path for path in paths if path == MANIFEST_PATH or path.startswith(f"{TRUST_FOLDER}/"))
    return [f"{SPARE_FOLDER}/{path}" for path in kept]
