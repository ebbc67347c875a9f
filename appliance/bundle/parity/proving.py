"""Reading mended files back from the medium they lie on, past the page cache; several side by side.

A file that has only to be moved on its medium is proven where it was made: a rename changes a name and no
byte.  That lets the files of a set be read together, where placing them goes one by one.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from appliance.bundle.blocks import block_count
from appliance.bundle.media.readback import BlockReader, open_uncached

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def digest_on_medium(path: Path) -> str:
    """Bring a file to its medium, and read it from there: its SHA-256 (hex).

    Raises:
        OSError: what the system said of the medium.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
        size = os.fstat(fd).st_size
    finally:
        os.close(fd)
    digest = hashlib.sha256()
    with open_uncached(path) as direct, BlockReader() as reader:
        for _, block in reader.blocks(direct, range(block_count(size))):
            digest.update(block)
    return digest.hexdigest()


def prove(made: Mapping[Path, str]) -> set[Path]:
    """Those of these files that give back from their medium what was signed.

    Of the others nothing is said here: whoever places them reads them back too, and says what is wrong.

    Args:
        made: the signed SHA-256 (hex) of each.
    """
    proven = set()

    def look(path: Path) -> None:
        with suppress(OSError):
            if digest_on_medium(path) == made[path]:
                proven.add(path)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(look, made))
    return proven
