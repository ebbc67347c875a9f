"""Files of an escrow's folder: written once and brought to the disk, read from the medium."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import sync_folder, writing_under
from appliance.disk.escrow.record import spelled
from appliance.errors import EscrowInvalid, EscrowUnproven, PreflightFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: What link(2) says where the file system has none, and renameat2(2) where it knows no such renaming.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_NO_RENAME: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
#: linux/fcntl.h and linux/fs.h
_AT_FDCWD: Final = -100
_NO_REPLACE: Final = 1


def names_in(folder: Path) -> list[str]:
    """Names of all files of an escrow, sorted; without those that were never finished, which are hidden.

    Raises:
        PreflightFailed: the folder cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as fault:
        raise PreflightFailed(
            f"the escrow {folder} cannot be read", found=fault.strerror, wanted="a folder of records"
        ) from fault


def newest_generation(folder: Path, serial: str, purpose: str = "") -> int:
    """The newest generation that any file of a drive names, record or not, whole or not; 0 where none does.

    Raises:
        PreflightFailed: the folder cannot be read.
    """
    pattern = re.compile(re.escape(spelled(serial)) + r"\.(\d{4})\." + re.escape(purpose))
    matches = [pattern.match(name) for name in names_in(folder)]
    return max((int(match[1]) for match in matches if match), default=0)


def put_file(folder: Path, name: str, data: bytes) -> None:
    """Write a new file, for its owner alone, and wait until it is on the disk: whole, or not there.

    Raises:
        FileExistsError: there is one of that name.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    with writing_under(folder):
        partial = folder / f".{name}.{secrets.token_hex(4)}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _name(partial, folder / name)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(folder)


def _name(partial: Path, path: Path) -> None:
    """Give a file its name, if no other has it: by a link, or by renaming where FAT has none."""
    try:
        os.link(partial, path)
    except OSError as fault:
        if fault.errno not in _NO_LINKS:
            raise
        rename_new(partial, path)


def rename_new(old: Path, new: Path) -> None:
    """Rename a file, and never over another: renameat2(2), RENAME_NOREPLACE.

    Raises:
        FileExistsError: there is one of the new name.
        PreflightFailed: the file system cannot.
    """
    library = ctypes.CDLL(None, use_errno=True)
    done = library.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), _NO_REPLACE)
    code = 0 if done == 0 else ctypes.get_errno()
    if code in _NO_RENAME:
        raise PreflightFailed(
            f"{new.parent} is no place for an escrow",
            found="a file system where a file cannot be named without the danger of replacing another",
            wanted="ext4, XFS, btrfs, FAT, exFAT or NFS",
        )
    if code:
        raise OSError(code, os.strerror(code), str(new))


@contextmanager
def writing_alone(folder: Path, stem: str) -> Iterator[None]:
    """Keep other programs of this machine from writing to the folder, as far as its file system can.

    Raises:
        EscrowUnproven: another one is writing.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # as NFS, which locks no folder
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EscrowUnproven(
                    f"{stem} was not escrowed",
                    found=f"another program writes to {folder}",
                    hint="wait until it has ended, and run it again",
                ) from None
        yield
    finally:
        os.close(descriptor)


def remove_unrecorded(folder: Path, stem: str) -> None:
    """Remove sealed files of a stem that has no record; on the disk when this returns.

    Raises:
        PreflightFailed: they cannot be removed.
    """
    there = names_in(folder)
    left = [name for name in there if name.startswith(f"{stem}.") and name.endswith(".age")]
    if f"{stem}.json" in there or not left:
        return
    with writing_under(folder):
        for name in left:
            (folder / name).unlink()
        sync_folder(folder)


def read_file(path: Path, most: int) -> bytes:
    """A file of at most so many bytes, from the medium rather than from memory where the system can.

    Raises:
        EscrowInvalid: it is longer.
        PreflightFailed: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            data = file.read(most + 1)
    except OSError as fault:
        raise PreflightFailed(f"{path} cannot be read", found=fault.strerror) from fault
    if len(data) > most:
        raise EscrowInvalid(f"{path.name} is too long", found=f"more than {most:,} bytes")
    return data
