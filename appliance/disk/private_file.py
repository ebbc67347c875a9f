"""Files with something in them that is nobody else's business."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path

_MOST: Final = 64 * 1024


def read_private(path: Path) -> bytes:
    """A short file that nobody else may read; of a longer one the beginning.

    Raises:
        Usage: it cannot be read, or others may read it.
    """
    try:
        with path.open("rb") as file:
            others = os.fstat(file.fileno()).st_mode & 0o077
            data = file.read(_MOST)
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    if others:
        raise Usage(f"others may read {path}", hint=f"chmod 600 {path}, and think about a new secret")
    return data
