"""The files of a bundle's folder, reached without following any link.

Every folder is opened by name within its parent with ``O_NOFOLLOW`` and read through that
descriptor; every file likewise.  So a link, planted before or swapped in while we work, is refused
and never followed, and nothing outside the bundle's folder is ever opened.

A file is accepted only if it is a regular file under one single name (a hard link elsewhere would let
somebody change the bytes behind our back), without setuid, setgid and sticky bits.  A folder is
accepted only if a listed file lies in it: empty and unknown folders are refused before they are
entered, so the walk never does more than the signed list allows.  Permissions are not judged: sticks
do not keep them.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, Self

from appliance.bundle.fileset import A_FOLDER, Children, Sizes, children_of
from appliance.bundle.paths import MENDED_PARTIAL
from appliance.bundle.plain_files import (
    MEND,
    NAMES_SHOWN,
    FolderCursor,
    kind_of,
    missing,
    open_plain,
    refuse_special,
    shown,
    unexpected,
    unreadable,
)
from appliance.bundle.presence import folder_answers
from appliance.counting import counted
from appliance.errors import BundleMalformed, DigestMismatch, FileMissing, FileUnexpected, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    Seen = Callable[[Sequence[int]], None]

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Bits of a mode that are not judged.
_PERMISSIONS: Final = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


class Tree:
    """The open folder of a bundle; to be used in a ``with`` statement.

    Raises:
        Usage: ``folder`` is not a folder that can be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self._fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except NotADirectoryError:
            raise Usage(
                f"{folder} is not a bundle",
                found="one file",
                wanted="the folder of a bundle: the one that holds manifest.json",
                hint="a document of its own, such as a root, a revocation or a statement, is shown by "
                "appliance trust inspect and signed by appliance trust sign",
            ) from None
        except OSError as fault:
            raise Usage(
                f"{folder} is not a folder that can be read",
                found=fault.strerror,
                wanted="the folder of a bundle: the one that holds manifest.json",
                hint="look whether its medium is still there, mount it again, and correct the permissions",
            ) from fault
        self._device = os.fstat(self._fd).st_dev

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the bundle lies: here."""
        return (self.folder,)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The one folder."""
        return (self,)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is odd but hinders nothing: nothing, in a single folder."""
        return ()

    def answers(self) -> bool:
        """Whether the medium is still there (``appliance.bundle.presence``)."""
        return folder_answers(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def names(self, folder: str, *, most: int) -> list[str]:
        """The names in one folder of the bundle, sorted.

        Raises:
            FileMissing: the folder is not there.
            FileUnexpected: it is a link or no folder, or holds more than ``most`` names.
        """
        try:
            with self._folder(folder) as fd, os.scandir(fd) as entries:
                names = [entry.name for entry in islice(entries, most + 1)]
        except OSError as fault:
            raise unreadable(folder, fault) from fault
        if len(names) > most:
            raise unexpected(folder, f"more than {most} files", wanted="what the format has there")
        return sorted(names)

    def check_set(self, files: Collection[str]) -> Mapping[str, int]:
        """Refuse any other set of files in the folder than ``files``; returns their sizes in bytes.

        Raises:
            FileUnexpected: a file, folder, link, device … that is not wanted.
            FileMissing: a wanted file is not there.
        """
        return self._check_set(files)

    def check_names(self, files: Collection[str], seen: Seen) -> None:
        """As ``check_set``, but look at names and kinds only, which takes half the time.

        Sizes, second names and special bits are left to who opens the files.  ``seen`` is told the
        numbers of each folder's files when all that lie there are of the right kind.
        """
        self._check_set(files, seen)

    def _check_set(self, files: Collection[str], seen: Seen | None = None) -> Sizes:
        wanted = children_of(files)
        sizes = array("q", [-1]) * len(wanted.files)
        self.survey(wanted, sizes.__setitem__, seen)
        if absent := [wanted.files[number] for number, size in enumerate(sizes) if size < 0]:
            raise FileMissing(
                f"missing in {self.folder}: {counted(len(absent), 'listed file')}",
                found=shown(absent),
                hint=MEND,
            )
        return Sizes(wanted.files, sizes)

    def survey(
        self, wanted: Children, keep: Callable[[int, int], None], seen: Seen | None = None
    ) -> list[str]:
        """Look what lies in the folder, of all that may; returns the folders that are there.

        Args:
            wanted: the files that may be there.
            keep: hears number and size in bytes of each of them that is.
            seen: if given, told the numbers of each folder's files; then no more is asked for than
                names and kinds, and ``keep`` hears 0 for a size.

        Raises:
            FileUnexpected: a file, folder, link, device … that may not.
        """
        folders: list[str] = []
        strange: list[str] = []
        for folder in sorted(wanted):
            if self._check_folder(folder, wanted[folder], keep, strange, measure=seen is None):
                folders.append(folder)
                if seen and not strange:
                    seen(wanted.numbers(folder))
            if len(strange) > NAMES_SHOWN:
                break  # a hostile folder may hold millions of names
        if strange:
            raise FileUnexpected(
                f"{self.folder} holds what is not of this bundle",
                found=shown(strange),
                wanted="only what the signed list names, and its signatures",
                hint="find out who put it there; obtain the bundle again"
                if strange != [MENDED_PARTIAL]
                else "an interrupted repair left it: run `appliance media repair` again, which removes it",
            )
        return folders

    def place(self, path: str) -> str:
        """How a file of the bundle is called in messages: by its path alone, in a single folder."""
        return path

    @contextmanager
    def open(self, path: str) -> Iterator[int]:
        """A descriptor for reading one file of the bundle.

        Raises:
            FileMissing, FileUnexpected: it is not there, or not a plain file (any more).
            DigestMismatch: it cannot be read.
        """
        parent, _, name = path.rpartition("/")
        with self._folder(parent) as folder:
            fd, _ = open_plain(folder, name, path)
        try:
            yield fd
        finally:
            os.close(fd)

    def again(self, path: str) -> Callable[[], AbstractContextManager[int]]:
        """What opens a file as ``open`` does, also when this tree is closed."""
        folder = self.folder.absolute()

        @contextmanager
        def open_again() -> Iterator[int]:
            with ExitStack() as stack:
                try:
                    tree = stack.enter_context(Tree(folder))
                except Usage as fault:  # it was a bundle's folder: what is amiss now is the medium
                    raise DigestMismatch(
                        f"{path} cannot be read", found=fault.message, hint="put the medium back"
                    ) from fault
                yield stack.enter_context(tree.open(path))

        return open_again

    @contextmanager
    def cursor(self) -> Iterator[FolderCursor]:
        """For opening many files in a row; for one thread."""
        cursor = FolderCursor(self._open_folder)
        try:
            yield cursor
        finally:
            cursor.close()

    def read(self, path: str, *, limit: int) -> bytes:
        """The bytes of a small file.

        Raises:
            BundleMalformed: it has more than ``limit`` bytes.
            FileMissing, FileUnexpected, DigestMismatch: as ``open``.
        """
        with self.open(path) as fd, os.fdopen(os.dup(fd), "rb") as file:
            try:
                data = file.read(limit + 1)
            except OSError as fault:
                raise unreadable(path, fault) from fault
        if len(data) > limit:
            raise BundleMalformed(
                f"{path} is too large", found=f"more than {limit:,} bytes", hint="obtain the bundle again"
            )
        return data

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        fd = self._open_folder(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def _open_folder(self, path: str) -> int:
        """A descriptor of a folder of the bundle, which the caller closes."""
        fd = os.dup(self._fd)
        try:
            for part in path.split("/") if path else ():
                try:
                    inner = os.open(part, _FOLDER_FLAGS, dir_fd=fd)
                except FileNotFoundError as fault:
                    raise missing(path) from fault
                except OSError as fault:
                    # O_DIRECTORY with O_NOFOLLOW says ENOTDIR or ELOOP of a link or a file.
                    if fault.errno in {errno.ENOTDIR, errno.ELOOP}:
                        raise unexpected(path, "a link or a file", wanted="a folder") from fault
                    raise unreadable(path, fault) from fault
                os.close(fd)
                fd = inner
                if os.fstat(fd).st_dev != self._device:
                    raise unexpected(path, "another file system mounted there", wanted="a folder")
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_folder(
        self,
        folder: str,
        wanted: Mapping[str, int],
        keep: Callable[[int, int], None],
        strange: list[str],
        *,
        measure: bool,
    ) -> bool:
        """Compare one folder with what belongs in it, adding to ``strange``; False if it is not there."""
        prefix = f"{folder}/" if folder else ""
        try:
            with self._folder(folder) as fd, os.scandir(fd) as entries:
                for entry in entries:
                    number = wanted.get(entry.name)
                    if number is None:
                        strange.append(prefix + entry.name)
                        if len(strange) > NAMES_SHOWN:
                            return True
                        continue
                    if not measure and number != A_FOLDER and entry.is_file(follow_symlinks=False):
                        keep(number, 0)
                        continue
                    found = entry.stat(follow_symlinks=False)
                    mode = found.st_mode
                    if number == A_FOLDER:
                        if not stat.S_ISDIR(mode):
                            raise unexpected(prefix + entry.name, kind_of(found), wanted="a folder")
                        continue
                    if mode & ~_PERMISSIONS != stat.S_IFREG or found.st_nlink != 1:
                        refuse_special(prefix + entry.name, found)
                    keep(number, found.st_size)
        except FileMissing:
            return False  # the caller reports its files, each by name
        except OSError as fault:
            raise unreadable(folder or ".", fault) from fault
        return True
