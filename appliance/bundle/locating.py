"""Finding the folder of a bundle, or of a volume, where a person points.

The path given is that folder, or the medium that holds exactly one such folder.  What else lies on the
medium is not ours and does not matter.  Nothing is believed here: it is the tree that refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import LABEL_PATH, SPARE_FOLDER
from appliance.bundle.paths import LIST_PATH
from appliance.errors import Usage

if TYPE_CHECKING:
    from pathlib import Path

_NAMES_SHOWN: Final = 10


def find_folder(given: Path) -> Path:
    """The folder itself, or the one bundle's or volume's folder in it.

    Raises:
        Usage: it holds several.
    """
    if _holds_bundle(given):
        return given
    try:
        with os.scandir(given) as entries:
            inner = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return given  # whoever opens it says what is wrong with it
    found = [given / name for name in sorted(inner) if _holds_bundle(given / name)]
    if len(found) > 1:
        names = ", ".join(ascii(folder.name)[1:-1] for folder in found[:_NAMES_SHOWN])
        raise Usage(
            f"{given} holds {len(found)} bundles or volumes",
            found=names + (" …" if len(found) > _NAMES_SHOWN else ""),
            wanted="one of them",
            hint="name the folder itself",
        )
    return found[0] if found else given


def is_volume(folder: Path) -> bool:
    """Whether a folder was written as one of several volumes, rather than copied as it was built."""
    return any(os.path.lexists(folder / name) for name in (LABEL_PATH, SPARE_FOLDER))


def _holds_bundle(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (LIST_PATH, LABEL_PATH))
