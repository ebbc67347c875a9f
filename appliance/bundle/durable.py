"""Files that are there whole or not at all, also after a power cut.

One file is brought to the disk by ``fsync``.  Many are left to the kernel while they are written, and
waited for together, with ``sync_file_system``: a wait for each of 200,000 would take many minutes.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Final

from appliance.errors import PreflightFailed, SpaceExhausted, Usage

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterator
    from pathlib import Path

FILE_MODE: Final = 0o644
FOLDER_MODE: Final = 0o755
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def create_file(path: Path | str) -> int:
    """A descriptor for writing and reading a new file; ``settle_file`` or ``finish_file`` sets its mode."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def settle_file(fd: int) -> None:
    """Set the mode whatever the umask; the bytes are on the disk after ``sync_file_system``."""
    os.fchmod(fd, FILE_MODE)


def finish_file(fd: int) -> None:
    """Set the mode whatever the umask, and wait until the bytes are on the disk."""
    settle_file(fd)
    os.fsync(fd)


def begin_writing_back(fd: int, offset: int, size: int) -> None:
    """Let the kernel start writing these bytes of a file to the disk, which it else puts off.

    Only so that there is less to wait for in the end; nothing is promised, so nothing is checked.
    """
    _libc().sync_file_range(fd, offset, size, _SYNC_FILE_RANGE_WRITE)


def sync_file_system(fd: int) -> None:
    """Wait until everything written to the file system that ``fd`` lies on is on the disk (syncfs(2)).

    Raises:
        OSError: something could not be written since ``fd`` was opened.
    """
    import ctypes

    if _libc().syncfs(fd) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


@contextmanager
def syncing_beside(folder: int) -> Iterator[None]:
    """Let the kernel bring to the disk what was written, while this block does something else.

    Only so that there is less to wait for in the end; nothing is promised.  A failure is told here to
    nobody, and to ``sync_file_system`` all the same: the kernel tells it once to each opened file, and
    this one is opened anew.
    """
    own = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)

    def sync() -> None:
        with suppress(OSError):
            sync_file_system(own)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        os.close(own)


@cache
def _libc() -> ctypes.CDLL:
    """The C library that this Python runs on."""
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    library.sync_file_range.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
    library.syncfs.argtypes = (ctypes.c_int,)
    return library


def write_file(path: Path, data: bytes) -> None:
    """Write a new file, durably."""
    with os.fdopen(create_file(path), "wb") as file:
        file.write(data)
        file.flush()
        finish_file(file.fileno())


def write_one_of_many(path: Path, data: bytes) -> None:
    """Write a new file; its bytes are on the disk after ``sync_file_system``."""
    with os.fdopen(create_file(path), "wb") as file:
        file.write(data)
        settle_file(file.fileno())


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


def have_folder(folder: Path) -> None:
    """Make the folder that somebody named, and those it lies in, unless it is there.

    Raises:
        Usage: something else lies there or in its way, as where a medium is not mounted.
        SpaceExhausted, PreflightFailed: the disk is full or write-protected.
    """
    with writing_under(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as fault:
            raise Usage(
                f"{folder} can be no folder",
                found=fault.strerror,
                wanted="a folder, or a name that is free",
                hint="look whether its medium is mounted, or name another folder",
            ) from fault


def free_bytes(folder: Path) -> int:
    """Bytes an ordinary user may still write where ``folder`` lies, or will lie."""
    while not folder.exists():
        folder = folder.parent
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
