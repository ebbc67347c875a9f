"""What a wheel says about itself (core metadata specification)."""

from __future__ import annotations

import email.parser
import zipfile
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_NAME: Final = 100  # characters; a longer License field is a text, not a name


def licence(path: Path) -> str | None:
    """The licence a wheel states: its SPDX expression, else its classifiers, else a short License field."""
    with zipfile.ZipFile(path) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        fields = email.parser.BytesHeaderParser().parsebytes(wheel.read(name))
    if expression := fields.get("License-Expression"):
        return str(expression).strip()
    classified = {
        str(classifier).rpartition(" :: ")[2]
        for classifier in fields.get_all("Classifier", [])
        if str(classifier).startswith("License :: ")
    }
    if classified:
        return " AND ".join(sorted(classified))
    stated = str(fields.get("License") or "").strip()
    return stated if stated and "\n" not in stated and len(stated) <= _LONGEST_NAME else None
