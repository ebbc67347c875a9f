"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from appliance.errors import PreflightFailed, SpaceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def create_file(path: Path) -> int:
    """A descriptor for writing and reading a new file; its final mode is set by ``finish_file``."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def finish_file(fd: int) -> None:
    """Set the mode whatever the umask, and wait until the bytes are on the disk."""
    os.fchmod(fd, FILE_MODE)
    os.fsync(fd)


def write_file(path: Path, data: bytes) -> None:
    """Write a new file, durably."""
    with os.fdopen(create_file(path), "wb") as file:
        file.write(data)
        file.flush()
        finish_file(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step: the old file or the new one is there, never a part.

    Raises:
        SpaceExhausted, PreflightFailed: the disk is full or write-protected; nothing has changed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with writing_under(path.parent):
        try:
            write_file(partial, data)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def writing_under(folder: Path) -> Iterator[None]:
    """Turn what a system says of a full or write-protected disk into errors a person can act on.

    Raises:
        SpaceExhausted: writing under ``folder`` met a full disk or quota.
        PreflightFailed: writing there is not allowed.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno in _FULL:
            raise SpaceExhausted(
                f"the disk under {folder} is full",
                found=f"{free_bytes(folder):,} bytes free",
                hint="free some space or write elsewhere, then run the command again; nothing was kept",
            ) from fault
        if fault.errno in _FORBIDDEN:
            raise PreflightFailed(
                f"nothing can be written under {folder}",
                found=fault.strerror,
                hint="copy the bundle to a writable disk, or correct the folder's permissions",
            ) from fault
        raise


def free_bytes(folder: Path) -> int:
    """Bytes an ordinary user may still write where ``folder`` lies, or will lie."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
