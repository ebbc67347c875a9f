"""Files of an escrow's folder: written once and brought to the disk, read from the medium."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from appliance.bundle.durable import sync_folder, writing_under
from appliance.disk.escrow.record import spelled
from appliance.errors import EscrowInvalid, EscrowUnproven, PreflightFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Names of all files of an escrow, sorted.

    Raises:
        PreflightFailed: the folder cannot be read.
    """
    try:
        return sorted(path.name for path in folder.iterdir())
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
    """Write a new file, for its owner alone, and wait until it is on the disk.

    Raises:
        FileExistsError: there is one of that name.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    with writing_under(folder):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)


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
