"""Finding the folder of a bundle, or of a volume, where a person points.

The path given is that folder, or the medium that holds exactly one such folder.  What else lies on the
medium is not ours and does not matter.  Nothing is believed here: it is the tree that refuses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import (
    LABEL_PATH,
    RECOVERY_LABEL_PATH,
    SPARE_FOLDER,
    UNFINISHED_PATH,
)
from appliance.bundle.paths import (
    LIST_PATH,
    MANIFEST_PATH,
    PARITY_FOLDER,
    PAYLOAD_FOLDER,
    TRUST_FOLDER,
)
from appliance.errors import Usage

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

#: A folder with one of these is a bundle's or a volume's, however little is left of it.
_SIGNS: Final = (LIST_PATH, LABEL_PATH, UNFINISHED_PATH)
#: What lies at the top of bundles, volumes and recovery volumes, and of nothing else.
_TRACES: Final = (
    *(*_SIGNS, RECOVERY_LABEL_PATH),
    *(MANIFEST_PATH, PAYLOAD_FOLDER, PARITY_FOLDER, TRUST_FOLDER, SPARE_FOLDER),
)
_NAMES_SHOWN: Final = 10


def find_folder(given: Path) -> Path:
    """The folder itself, or the one bundle's or volume's folder in it; or else the one recovery volume's.

    Raises:
        Usage: it holds several.
    """
    if _holds_one_of(given, _SIGNS) or is_recovery(given):
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
    folders = [given / name for name in sorted(inner)]
    found = [folder for folder in folders if _holds_one_of(folder, _SIGNS)]
    found = found or [folder for folder in folders if is_recovery(folder)]
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
    return _holds_one_of(folder, (LABEL_PATH, UNFINISHED_PATH, SPARE_FOLDER))


def is_recovery(folder: Path) -> bool:
    """Whether a folder is a recovery volume (``appliance.bundle.parity.whole``)."""
    return _holds_one_of(folder, (RECOVERY_LABEL_PATH,))


def holds_trace(folder: Path) -> bool:
    """Whether anything of a bundle lies in a folder; else perhaps nothing is mounted there."""
    return _holds_one_of(folder, _TRACES)


def _holds_one_of(folder: Path, names: Collection[str]) -> bool:
    return any(os.path.lexists(folder / name) for name in names)
