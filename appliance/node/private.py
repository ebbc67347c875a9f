"""A folder in memory that only this user can read, gone when the run is over."""

from __future__ import annotations

import contextlib
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
    """A fresh folder, mode 0700, with a path short enough for sockets; removed on the way out."""
    base = next((place for place in _IN_MEMORY if os.access(place, os.W_OK | os.X_OK)), None)
    place = Path(base or tempfile.gettempdir())
    _sweep(place)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove folders of runs that were killed: named by a process that is no more, and ours."""
    for folder in place.glob(f"{_PREFIX}*-*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if (
            process.isdigit()
            and not Path("/proc", process).exists()
            and folder.lstat().st_uid == os.getuid()
        ):
            shutil.rmtree(folder, ignore_errors=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
