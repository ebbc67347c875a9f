"""What a wheel says about itself (core metadata specification)."""

from __future__ import annotations

import email.parser
import zipfile
from typing import TYPE_CHECKING, Final

from appliance.bundle.licences import spdx

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_NAME: Final = 100  # characters; a longer License field is a text, not a name


def licence(path: Path) -> str | None:
    """The licence a wheel states: its SPDX expression, else its classifiers, else a short License field.

    Classifiers that do not say which licence ("Apache Software License" has no version) give way to a
    License field that does.
    """
    with zipfile.ZipFile(path) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        fields = email.parser.BytesHeaderParser().parsebytes(wheel.read(name))
    if expression := fields.get("License-Expression"):
        return str(expression).strip()
    classified = " AND ".join(
        sorted(
            {
                str(classifier).rpartition(" :: ")[2]
                for classifier in fields.get_all("Classifier", [])
                if str(classifier).startswith("License :: ")
            }
        )
    )
    stated = str(fields.get("License") or "").strip()
    is_name = bool(stated) and "\n" not in stated and len(stated) <= _LONGEST_NAME
    if classified and (spdx(classified) or not (is_name and spdx(stated))):
        return classified
    return stated if is_name else None
