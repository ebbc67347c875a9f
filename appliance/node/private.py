"""A folder in memory that only this user can read, gone when the run is over."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Folders in memory, best first: what is written there never reaches a disk.
_IN_MEMORY: Final = ("/dev/shm", f"/run/user/{os.getuid()}", "/run")  # noqa: S108 - made private below

_PREFIX: Final = "appliance-run-"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A fresh folder, mode 0700, with a path short enough for sockets; removed on the way out.

    A lock on the folder says that its run is alive.  It ends with the process, and unlike a process id
    it means the same to a run in another container that shares the memory file system.
    """
    base = next((place for place in _IN_MEMORY if os.access(place, os.W_OK | os.X_OK)), None)
    place = Path(base or tempfile.gettempdir())
    for left in place.glob(f"{_PREFIX}*"):
        _remove_abandoned(left)
    folder, lock = _claim(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _claim(place: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        if (lock := _lock(folder)) is not None:
            if folder.exists():
                return folder, lock
            os.close(lock)  # another run took it for abandoned just before it was locked


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None if another holds it or the folder is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_abandoned(folder: Path) -> None:
    """Remove the folder of a run that was killed, if it is ours."""
    lock = _lock(folder)
    if lock is not None:
        if os.fstat(lock).st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
