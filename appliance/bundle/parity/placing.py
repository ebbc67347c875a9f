"""Putting a mended file where it belongs: written beside, read back from the medium, then renamed.

Until the rename the damaged file stays as it was, so an interruption loses nothing.  Only where there is
no room beside it, it is mended where it lies (``appliance.bundle.parity.patching``).
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import FILE_MODE, create_file, free_bytes, sync_folder, writing_under
from appliance.bundle.parity.patching import fits_in_place, patch_file
from appliance.bundle.parity.proving import digest_on_medium
from appliance.bundle.paths import MENDED_PARTIAL
from appliance.errors import MediumFailed, MediumUnsuitable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PROTECTED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
#: What a system says of a medium that fails or is gone, by way of its own drivers or of FUSE.
_FAILING: Final = frozenset(
    {
        errno.EIO,
        errno.ENODEV,
        errno.ENXIO,
        errno.EREMOTEIO,
        errno.ETIMEDOUT,
        errno.ESHUTDOWN,
        errno.ENOTCONN,
        errno.ECONNABORTED,
    }
)
_BUFFER: Final = 1 << 20


def remove_partial(folder: Path) -> None:
    """Remove what an interrupted repair left; it has one name, so that the next run finds it.

    Raises:
        MediumUnsuitable: there is something, but the medium is write-protected.
    """
    with _unprotected(folder), suppress(FileNotFoundError):
        (folder / MENDED_PARTIAL).unlink()


def check_writable(folder: Path) -> None:
    """Make a folder if it is not there; refuse one in which nothing can be written.

    What an interrupted repair left is removed.

    Raises:
        MediumUnsuitable: the medium is write-protected.
        MediumFailed: it fails, or was pulled.
        SpaceExhausted: there is no room for a name.
    """
    with writing_under(folder), _keeping(folder), _unprotected(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_partial(folder)
        os.close(create_file(folder / MENDED_PARTIAL))
        (folder / MENDED_PARTIAL).unlink()


@contextmanager
def _unprotected(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno not in _PROTECTED:
            raise
        raise MediumUnsuitable(
            f"{folder} cannot be written to",
            found=fault.strerror,
            wanted="a medium that can be written, or another folder for the mended files",
            hint="name a folder with --out; nothing was changed",
        ) from fault


def place_file(
    source: Path, folder: Path, path: str, sha256: str, *, move: bool, proven: bool = False
) -> None:
    """Put the bytes of ``source`` at ``path`` of ``folder``: in one step, or in its place if that is full.

    Args:
        source: a file with the right bytes.
        folder: a place, on which ``check_writable`` was called.
        path: relative to it.
        sha256: the digest that must be read back from the medium (hex).
        move: ``source`` may be moved instead of copied, where it lies on the same file system.
        proven: ``source`` was read back from its medium (``appliance.bundle.parity.proving``): if it is
            moved, it is not read once more.

    Raises:
        MediumFailed: the medium gives back something else than was written.
        SpaceExhausted, PreflightFailed: it is full, or write-protected.
    """
    partial, target = folder / MENDED_PARTIAL, folder / path
    with writing_under(folder), _keeping(folder):
        moved = move and _moved(source, partial)
        if not moved:
            size = source.stat().st_size
            if free_bytes(folder) < size and fits_in_place(source, target):
                patch_file(source, target)
                _read_back(target, path, sha256)
                return
            _copy(source, partial)
        _settle(partial, path, None if moved and proven else sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_folder(target.parent)


def place_bytes(data: bytes, folder: Path, path: str) -> None:
    """Put ``data`` at ``path`` of ``folder``, in one step; otherwise as ``place_file``."""
    partial, target = folder / MENDED_PARTIAL, folder / path
    with writing_under(folder), _keeping(folder):
        with os.fdopen(create_file(partial), "wb") as file:
            file.write(data)
        _settle(partial, path, hashlib.sha256(data).hexdigest())
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
        sync_folder(target.parent)


@contextmanager
def _keeping(folder: Path) -> Iterator[None]:
    """Say that a medium fails where writing to it does: broken, or pulled out."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in _FAILING:
            raise
        raise MediumFailed(
            f"{folder} does not keep what is written to it",
            found=fault.strerror,
            hint="put the medium in again or take another; name a folder for the mended files with --out",
        ) from fault


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


def _settle(partial: Path, path: str, sha256: str | None) -> None:
    """Bring a new file to the medium and compare what it gives back; remove it if it is not right.

    ``sha256`` is None if that was done before.
    """
    try:
        with suppress(PermissionError):  # FAT keeps no permissions
            partial.chmod(FILE_MODE)
        if sha256 is not None:
            _read_back(partial, path, sha256)
    except (OSError, MediumFailed):
        partial.unlink()
        raise


def _read_back(placed: Path, path: str, sha256: str) -> None:
    """Bring a file to the medium, read it from there, and compare."""
    found = digest_on_medium(placed)
    if found != sha256:
        raise MediumFailed(
            f"{placed.parent} gives back something else than was written",
            found=f"{path}: sha256 {found}",
            wanted=f"sha256 {sha256}",
            hint="take another medium; name a folder for the mended files with --out",
        )
