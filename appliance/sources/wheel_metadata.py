"""What a wheel says about itself (core metadata specification).

A wheel is whatever an index gave out under its digest: a few kilobytes of it may unpack to gigabytes, and
what it states is somebody else's text.
"""

from __future__ import annotations

import email.parser
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from appliance.bundle.licences import spdx
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_NAME: Final = 100  # characters; a longer License field is a text, not a name
_LONGEST: Final = 4096  # what a manifest takes
#: Bytes of METADATA, the project's whole description included.
MAX_METADATA: Final = 4 << 20


def licence(path: Path) -> str | None:
    """The licence a wheel states: its SPDX expression, else its classifiers, else a short License field.

    Classifiers that do not say which licence ("Apache Software License" has no version) give way to a
    License field that does.

    Raises:
        BundleMalformed: it is no wheel, or says too much about itself.
    """
    fields = email.parser.BytesHeaderParser().parsebytes(_metadata(path))
    if expression := fields.get("License-Expression"):
        return _usable(str(expression).strip())
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
        return _usable(classified)
    return _usable(stated) if is_name else None


def _usable(stated: str) -> str | None:
    return stated if stated and stated.isprintable() and len(stated) <= _LONGEST else None


def _metadata(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
            with wheel.open(name) as member:
                data = member.read(MAX_METADATA + 1)
    except (
        zipfile.BadZipFile,
        zlib.error,
        StopIteration,
        NotImplementedError,
        RuntimeError,
        EOFError,
    ) as fault:
        raise _no_wheel(path, str(fault) or type(fault).__name__) from fault
    if len(data) > MAX_METADATA:
        raise _no_wheel(path, f"more than {MAX_METADATA:,} bytes of METADATA")
    return data


def _no_wheel(path: Path, found: str) -> BundleMalformed:
    return BundleMalformed(
        f"the file with digest {path.name} is no wheel that can be read",
        found=ascii(found)[:200],
        wanted=f"a zip archive with METADATA of at most {MAX_METADATA:,} bytes",
        hint="look at what the index gives out under this name, or require another version",
    )
