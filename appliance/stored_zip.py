"""A zip file whose bytes follow from its files alone: sorted, uncompressed, of one time and mode."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_OLDEST: Final = (1980, 1, 1, 0, 0, 0)  # the first time a zip file can hold
_PLAIN_FILE: Final = 0o100644 << 16


def stored_zip(files: Mapping[str, bytes], *, last: str = "") -> bytes:
    """The bytes of a zip file of these files, by path; ``last``: the one that comes after all others."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files, key=lambda name: (name == last, name)):
            entry = zipfile.ZipInfo(name, _OLDEST)
            entry.external_attr = _PLAIN_FILE
            entry.create_system = 3  # Unix, wherever this runs
            archive.writestr(entry, files[name])
    return packed.getvalue()
