"""A wheel again, without some of what it asks for: a version of its own, the rest byte for byte."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


def repack(wheel: Path, folder: Path, *, without: Collection[str], local: str) -> Path:
    """Write the wheel to ``folder`` without the requirements on these projects.

    Its version gets the local label ``local`` (PEP 440), so that it cannot be taken for the maker's own.
    """
    project, version, *tags = wheel.name.split("-")
    renamed = f"{version}+{local}"
    out = folder / "-".join([project, renamed, *tags])
    former, present = (f"{project}-{each}.dist-info/" for each in (version, renamed))
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w") as target:
        metadata = _metadata(source.read(f"{former}METADATA").decode(), without, renamed).encode()
        for item in source.infolist():
            if item.filename == f"{former}RECORD":
                continue
            data = metadata if item.filename == f"{former}METADATA" else source.read(item)
            target.writestr(item.filename.replace(former, present), data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(metadata).digest()).rstrip(b"=").decode()
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for path, stated, size in csv.reader(source.read(f"{former}RECORD").decode().splitlines()):
            kept = (f"sha256={digest}", len(metadata)) if path == f"{former}METADATA" else (stated, size)
            rows.writerow([path.replace(former, present), *kept])
        target.writestr(f"{present}RECORD", text.getvalue())
    return out


def _metadata(text: str, without: Collection[str], version: str) -> str:
    head, blank, description = text.partition("\n\n")
    lines = []
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        if name == "Requires-Dist" and canonicalize_name(Requirement(value).name) in without:
            continue
        lines.append(f"Version: {version}" if name == "Version" else line)
    return "\n".join(lines) + blank + description
