"""A file system of another kind than this machine's, mounted from a sparse file; needs root."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def mounted(kind: str, folder: Path, size: int, *options: str) -> Iterator[Path]:
    """Where it is mounted, below ``folder``.

    Args:
        kind: as in ``mkfs.KIND``.
        folder: for its image and its mount point.
        size: in bytes; a sparse file of so many takes no room.
        options: of ``mkfs``.
    """
    image, place = folder / "image", folder / "disk"
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([f"mkfs.{kind}", "-q", *options, image], check=True)
    place.mkdir()
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()
