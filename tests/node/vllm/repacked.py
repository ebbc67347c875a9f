"""A wheel again, without some of what it asks for: a version of its own, the code byte for byte."""

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
    What it says of the Pythons that it is for is made to agree with its file's name, which pip and uv go
    by: ``pip check`` on the node reads the other.
    """
    project, version, *tags = wheel.stem.split("-")
    renamed = f"{version}+{local}"
    out = folder / f"{'-'.join([project, renamed, *tags])}.whl"
    former, present = (f"{project}-{each}.dist-info/" for each in (version, renamed))
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w") as target:
        changed = {
            "METADATA": _metadata(source.read(f"{former}METADATA").decode(), without, renamed),
            "WHEEL": _for(source.read(f"{former}WHEEL").decode(), tags),
        }
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        for path, stated, size in csv.reader(source.read(f"{former}RECORD").decode().splitlines()):
            if path == f"{former}RECORD":
                rows.writerow([f"{present}RECORD", "", ""])
                continue
            name = path.removeprefix(former)
            data = changed[name].encode() if name in changed else source.read(path)
            target.writestr(path.replace(former, present), data)
            rows.writerow(
                [path.replace(former, present), *(_stated(data) if name in changed else (stated, size))]
            )
        target.writestr(f"{present}RECORD", text.getvalue())
    return out


def _stated(data: bytes) -> tuple[str, int]:
    """Digest and size, as a wheel's RECORD has them."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", len(data)


def _for(text: str, tags: list[str]) -> str:
    """A wheel's WHEEL with the tags of its file's name."""
    lines = [line for line in text.splitlines() if line and not line.startswith("Tag:")]
    return "\n".join([*lines, f"Tag: {'-'.join(tags)}", ""])


def _metadata(text: str, without: Collection[str], version: str) -> str:
    head, blank, description = text.partition("\n\n")
    lines = []
    for line in head.splitlines():
        name, _, value = line.partition(": ")
        if name == "Requires-Dist" and canonicalize_name(Requirement(value).name) in without:
            continue
        lines.append(f"Version: {version}" if name == "Version" else line)
    return "\n".join(lines) + blank + description
