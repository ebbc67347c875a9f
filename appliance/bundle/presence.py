"""Telling damage from a medium that is not there any more: pulled out, or broken as a whole.

To whoever reads it, a stick that was pulled looks like one on which every file is damaged, and a program
that works on its files merely fails.  So where something has failed, the media are asked whether they
still answer, and only then it is said what the matter is.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import ApplianceError, MediumFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.bundle.tree import Tree

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK_DEVICES: Final = Path("/sys/dev/block")
#: Files tried before a medium is given up: one bad sector is not the end of it.
_TRIED: Final = 16
#: What is said of one file by a medium that is there.
_ANSWERS: Final = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP, errno.ENOTDIR})


@contextmanager
def telling_pulled(trees: Callable[[], Sequence[Tree]]) -> Iterator[None]:
    """Where something fails because a medium is gone, say that instead.

    Args:
        trees: gives the open folders on the media that are read.

    Raises:
        MediumFailed: one of them does not answer any more.
    """
    try:
        yield
    except (OSError, ApplianceError) as fault:
        require_answers(trees(), fault)
        raise


def require_answers(trees: Sequence[Tree], fault: Exception | None = None) -> None:
    """Refuse to go on without a medium that is gone.

    Args:
        trees: the open folders.
        fault: what went wrong, if that is known.

    Raises:
        MediumFailed: naming the first that does not answer.
    """
    for tree in trees:
        if not tree.answers():
            raise gone(str(tree.folder), fault) from fault


def gone(place: str, fault: Exception | None) -> MediumFailed:
    """The error for a medium that does not answer any more; ``fault``: what went wrong, if known."""
    return MediumFailed(
        f"the medium at {place} cannot be read any more: pulled out, or broken",
        found=_what_was_said(fault),
        wanted="a medium that stays in until this has ended",
        hint="put it in and mount it again, then run the same command again; if it stays so, "
        "take another copy",
    )


def folder_answers(fd: int) -> bool:
    """Whether the medium under an open folder still answers.

    Its names may be remembered by the system, and so may what its files begin with: one of the files in
    the folder must still be read past that.
    """
    try:
        device = os.fstat(fd).st_dev
        if not _is_plugged_in(device):
            return False
        own = os.open(".", _FOLDER_FLAGS, dir_fd=fd)  # a place in the folder of our own
        try:
            with os.scandir(own) as entries:
                files = (each.name for each in entries if each.is_file(follow_symlinks=False))
                names = list(islice(files, _TRIED))
        finally:
            os.close(own)
    except OSError:
        return False
    return not names or any(_file_answers(fd, name) for name in names)


def _is_plugged_in(device: int) -> bool:
    """Whether the block device is there at all; file systems without one are asked by reading alone."""
    major, minor = os.major(device), os.minor(device)
    if not major or not _BLOCK_DEVICES.is_dir():
        return True
    return (_BLOCK_DEVICES / f"{major}:{minor}").exists()


def _file_answers(folder: int, name: str) -> bool:
    from appliance.bundle.media.readback import BlockReader, uncached

    try:
        fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
        try:
            with uncached(fd) as direct, BlockReader() as reader:
                next(reader.blocks(direct, [0]), None)
        finally:
            os.close(fd)
    except OSError as fault:
        return fault.errno in _ANSWERS
    return True


def _what_was_said(fault: Exception | None) -> str | None:
    if isinstance(fault, OSError):
        return fault.strerror
    if isinstance(fault, MediumFailed):
        return fault.found
    return fault.message if isinstance(fault, ApplianceError) else None
