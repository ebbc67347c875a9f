"""Putting a mended file where it belongs: written beside, read back from the medium, then renamed.

Until the rename the damaged file stays as it was, so an interruption loses nothing.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import FILE_MODE, create_file, sync_folder, writing_under
from appliance.errors import MediumFailed, MediumUnsuitable

if TYPE_CHECKING:
    from pathlib import Path

#: One name at the top of a place, so that the next run finds what an interrupted one left.
PARTIAL_NAME: Final = ".appliance-mended.partial"
_BUFFER: Final = 1 << 20


def check_writable(folder: Path) -> None:
    """Remove what an interrupted repair left; refuse a folder in which nothing can be written.

    Raises:
        MediumUnsuitable: the medium is write-protected.
    """
    partial = folder / PARTIAL_NAME
    try:
        with suppress(FileNotFoundError):
            partial.unlink()
        os.close(create_file(partial))
        partial.unlink()
    except OSError as fault:
        if fault.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
            raise
        raise MediumUnsuitable(
            f"{folder} cannot be written to",
            found=fault.strerror,
            wanted="a medium that can be written, or another folder for the mended files",
            hint="name a folder with --out; nothing was changed",
        ) from fault


def place_file(source: Path, folder: Path, path: str, sha256: str, *, move: bool) -> None:
    """Put the bytes of ``source`` at ``path`` of ``folder``, in one step.

    Args:
        source: a file with the right bytes.
        folder: a place, on which ``check_writable`` was called.
        path: relative to it.
        sha256: the digest that must be read back from the medium (hex).
        move: ``source`` may be moved instead of copied, where it lies on the same file system.

    Raises:
        MediumFailed: the medium gives back something else than was written.
        SpaceExhausted, PreflightFailed: it is full, or write-protected.
    """
    partial, target = folder / PARTIAL_NAME, folder / path
    with writing_under(folder):
        if not (move and _moved(source, partial)):
            _copy(source, partial)
        _settle(partial, path, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_folder(target.parent)


def place_bytes(data: bytes, folder: Path, path: str) -> None:
    """Put ``data`` at ``path`` of ``folder``, in one step; otherwise as ``place_file``."""
    partial, target = folder / PARTIAL_NAME, folder / path
    with writing_under(folder):
        with os.fdopen(create_file(partial), "wb") as file:
            file.write(data)
        _settle(partial, path, hashlib.sha256(data).hexdigest())
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_folder(target.parent)


def _moved(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as fault:
        if fault.errno != errno.EXDEV:
            raise
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as read, os.fdopen(create_file(target), "wb") as write:
        while data := read.read(_BUFFER):
            write.write(data)


def _settle(partial: Path, path: str, sha256: str) -> None:
    """Bring a file to the medium, read it back from there, and compare."""
    fd = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with suppress(PermissionError):  # FAT keeps no permissions
            os.fchmod(fd, FILE_MODE)
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with os.fdopen(os.dup(fd), "rb", buffering=0) as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        partial.unlink()
        raise MediumFailed(
            f"{partial.parent} does not keep what is written to it",
            found=fault.strerror,
            hint="take another medium; name a folder for the mended files with --out",
        ) from fault
    finally:
        os.close(fd)
    if found != sha256:
        partial.unlink()
        raise MediumFailed(
            f"{partial.parent} gives back something else than was written",
            found=f"{path}: sha256 {found}",
            wanted=f"sha256 {sha256}",
            hint="take another medium; name a folder for the mended files with --out",
        )
