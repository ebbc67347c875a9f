"""What a medium's file system can do, found by doing it, and what it says when it cannot.

No list of file systems: a name is kept if it is there after a file was made under it.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import FOLDER_MODE, free_bytes
from appliance.errors import MediumFailed, MediumUnsuitable, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

#: FAT keeps no modes, and says so in as many ways as there are drivers.
_NO_MODES: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})
_BLOCK: Final = 4 << 20


def make_folder(folder: Path) -> None:
    """Make a folder, and see that the medium keeps its name.

    Raises:
        MediumUnsuitable: long names are cut or spelled otherwise.
    """
    folder.mkdir()
    set_mode(folder, FOLDER_MODE)
    _check_kept(folder)


def check_names(folder: Path, names: Iterable[str]) -> None:
    """See that the medium keeps the most awkward ones of these file names as they are spelled.

    Raises:
        MediumUnsuitable: a name is cut, spelled otherwise or refused.
    """
    for name in _awkward(names):
        path = folder / name
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as fault:
            if fault.errno not in {errno.EINVAL, errno.ENAMETOOLONG}:
                raise
            raise MediumUnsuitable(
                f"the medium refuses the file name {name}",
                found=fault.strerror,
                wanted="a file system that keeps every name of the bundle",
                hint="format the medium with FAT32 (long names), exFAT or ext4, which keep every name a "
                "bundle may have",
            ) from fault
        os.close(fd)
        _check_kept(path)
        path.unlink()


def set_mode(path: Path | int, mode: int) -> None:
    """Set a mode where the file system keeps modes; on FAT and exFAT all files have the same."""
    try:
        os.chmod(path, mode)  # noqa: PTH101 - a descriptor has no Path
    except OSError as fault:
        if fault.errno not in _NO_MODES:
            raise


def check_room(target: Path, wanted: int, what: str) -> None:
    """Refuse a medium that has less than ``wanted`` bytes free.

    Raises:
        SpaceExhausted: naming both.
    """
    status = os.statvfs(target)
    free = status.f_bavail * status.f_frsize
    if status.f_blocks and free < wanted:
        raise SpaceExhausted(
            f"too little room at {target} for {what}",
            found=f"{free:,} bytes free",
            wanted=f"{wanted:,} bytes",
            hint="free some space on it, or take a larger medium; nothing was written",
        )


@contextmanager
def writing_to(target: Path, what: str) -> Iterator[None]:
    """Turn what a system says of a medium into errors a person can act on.

    Raises:
        SpaceExhausted: it is full.
        MediumUnsuitable: nothing may be written there, or no files of this size.
        MediumFailed: it was pulled, or is broken: then systems also begin to refuse writing.
    """
    again = "run the same command again: it goes on where this one stopped, by blocks of 4 MiB"
    try:
        yield
    except OSError as fault:
        where = f"{what}: the medium at {target}"
        if fault.errno in _FULL or (fault.errno == errno.EPERM and _is_full(target)):
            raise SpaceExhausted(
                f"{where} is full",
                found=f"{free_bytes(target):,} bytes free",
                wanted="the room that was there when writing began",
                hint=f"what was written is kept: free some space on it, then {again}",
            ) from fault
        if fault.errno in _FORBIDDEN:
            raise MediumUnsuitable(
                f"{where} cannot be written to",
                found=fault.strerror,
                hint=f"correct the permissions, then {again}",
            ) from fault
        if fault.errno == errno.EFBIG:
            raise MediumUnsuitable(
                f"{where} holds no files of this size",
                found=fault.strerror,
                wanted="files of 1 GiB",
                hint="format it with FAT32, exFAT or ext4",
            ) from fault
        raise MediumFailed(
            f"{where} failed: pulled out, or broken",
            found=fault.strerror,
            hint=f"what was written is kept: put it in and mount it again, then {again}",
        ) from fault


def _awkward(names: Iterable[str]) -> set[str]:
    """The longest name, one in mixed case, one with each rarer mark: where file systems differ."""
    names = list(names)
    mixed = [name for name in names if name not in {name.lower(), name.upper()}]
    return {*[max(names, key=len)], *mixed[:1], *_with_marks(names)}


def _with_marks(names: Iterable[str]) -> Iterator[str]:
    """For each mark that a path may hold but for ``.``, ``_`` and ``-`` the first name that has it."""
    for mark in "+~@=":
        yield from islice((name for name in names if mark in name), 1)


def _check_kept(path: Path) -> None:
    """Refuse a medium on which what was just made has another name; removes it."""
    if path.name in (kept := [entry.name for entry in path.parent.iterdir()]):
        return
    with suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink()
    raise MediumUnsuitable(
        f"the medium at {path.parent} does not keep long names in upper and lower case",
        found=f"{', '.join(sorted(kept)[:10]) or 'nothing'} after making {path.name}",
        wanted="FAT32 with long names (mounted as vfat), exFAT or ext4",
        hint="mount it as vfat instead of msdos, or format it anew",
    )


def _is_full(target: Path) -> bool:
    """Whether hardly anything is free: some drivers say something else than "no space"."""
    with suppress(OSError):
        status = os.statvfs(target)
        return status.f_blocks > 0 and status.f_bavail * status.f_frsize < _BLOCK
    return False
