"""Opening plain files: by name in an open folder, never through a link, and nothing else than files.

A file is accepted only if it is a regular file under one single name, without setuid, setgid and sticky
bits.  What is refused says what it is.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from appliance.errors import DigestMismatch, FileMissing, FileUnexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# O_NONBLOCK: a FIFO swapped in between looking and opening must not hang us.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SPECIAL_BITS: Final = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
NAMES_SHOWN: Final = 10
#: What to do about a file that is not what was signed, wherever it lies.
MEND: Final = (
    "`appliance media repair` mends it, as far as parity or another copy goes; else bring it again from "
    "where it came from"
)
_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a block device",
    stat.S_IFCHR: "a character device",
}


class FolderCursor:
    """Opens files one after another through the descriptor of the folder they lie in.

    Args:
        open_folder: gives a descriptor for a folder's path, reached without following a link.
    """

    def __init__(self, open_folder: Callable[[str], int]) -> None:
        self._open_folder = open_folder
        self._path: str | None = None
        self._fd = -1

    def open(self, path: str) -> tuple[int, os.stat_result]:
        """A descriptor for reading, which the caller closes, and what is known of the file."""
        return open_plain(*self._find(path), path)

    def open_unseen(self, path: str) -> int:
        """A descriptor for reading of what may be no plain file; the caller looks, and closes it."""
        folder, name = self._find(path)
        return os.open(name, _FILE_FLAGS, dir_fd=folder)

    def _find(self, path: str) -> tuple[int, str]:
        """The open folder that a file lies in, and its name there."""
        parent, _, name = path.rpartition("/")
        if parent != self._path:
            self.close()
            self._fd = self._open_folder(parent)
            self._path = parent
        return self._fd, name

    def close(self) -> None:
        """Close the folder that is open, if one is."""
        if self._path is not None:
            os.close(self._fd)
            self._path = None


def open_plain(folder: int, name: str, path: str) -> tuple[int, os.stat_result]:
    """Open a plain file by its name in an open folder; ``path`` is for messages."""
    try:
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except FileNotFoundError as fault:
        raise missing(path) from fault
    except IsADirectoryError as fault:
        raise unexpected(path, "a folder") from fault
    except OSError as fault:
        with suppress(OSError):  # a medium that was pulled does not say what it was
            refuse_special(path, os.stat(name, dir_fd=folder, follow_symlinks=False))
        raise unreadable(path, fault) from fault
    try:
        found = os.fstat(fd)
        refuse_special(path, found)
    except BaseException:
        os.close(fd)
        raise
    return fd, found


def refuse_special(path: str, found: os.stat_result) -> None:
    """Refuse anything but a regular file with one name and no special bits.

    Raises:
        FileUnexpected: saying what it is.
    """
    if not stat.S_ISREG(found.st_mode):
        raise unexpected(path, kind_of(found))
    if found.st_nlink > 1:
        raise unexpected(path, f"a file with {found.st_nlink} names (hard links)")
    if found.st_mode & _SPECIAL_BITS:
        raise unexpected(path, f"special permissions {stat.filemode(found.st_mode)}")


def unreadable(path: str, fault: OSError) -> DigestMismatch:
    """The error for a file that cannot be read to its end."""
    return DigestMismatch(
        f"{path} cannot be read",
        found=fault.strerror,
        hint=f"check the medium and the permissions; {MEND}",
    )


def kind_of(found: os.stat_result) -> str:
    """What a file is, in words."""
    return _KINDS.get(stat.S_IFMT(found.st_mode), "a file")


def shown(names: Sequence[str]) -> str:
    """The first of these names, safe to print."""
    first = ", ".join(ascii(name)[1:-1][:160] for name in sorted(names)[:NAMES_SHOWN])
    return first + (" …" if len(names) > NAMES_SHOWN else "")


def missing(path: str) -> FileMissing:
    """The error for a listed file that is not there."""
    return FileMissing(f"{path} is missing", hint=MEND)


def unexpected(path: str, found: str, wanted: str = "a plain file under one name") -> FileUnexpected:
    """The error for what lies where a plain file, or a folder, should."""
    return FileUnexpected(
        f"{ascii(path)[1:-1]} is not what belongs there",
        found=found,
        wanted=wanted,
        hint="find out who put it there; obtain the bundle again",
    )
