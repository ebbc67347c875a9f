"""This very program as a wheel, from wherever it runs: a checkout or an installed wheel.

The bytes depend on the program's files alone: entries are sorted, stored uncompressed, with one fixed
time and mode (binary distribution format, "wheel 1.0"; recording installed projects, PEP 376 and 427).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

import appliance
from appliance.content import content_root
from appliance.stored_zip import stored_zip

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = "appliance"
CONTENT: Final = ("playbooks", "roles")

_WHEEL: Final = b"Wheel-Version: 1.0\nGenerator: appliance\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@dataclass(frozen=True)
class ToolkitWheel:
    """The program, packed: file name, version and licence of the wheel, and its bytes."""

    file: str
    version: str
    licence: str
    data: bytes


def pack_toolkit() -> ToolkitWheel:
    """Pack the running program with its playbooks and roles."""
    distribution = metadata.distribution(PROJECT)
    info = f"{PROJECT}-{distribution.version}.dist-info"
    files = dict(_package_files())
    files.update({f"{info}/{name}": data for name, data in _dist_info(distribution)})
    record = f"{info}/RECORD"
    files[record] = _record(files, record)
    return ToolkitWheel(
        file=f"{PROJECT}-{distribution.version}-py3-none-any.whl",
        version=distribution.version,
        licence=distribution.metadata["License-Expression"],
        data=stored_zip(files, last=record),  # so that a reader has seen all it lists
    )


def runtime_requirements() -> list[str]:
    """What the program needs on a node: its requirements without those of any extra."""
    requirements = [Requirement(text) for text in metadata.distribution(PROJECT).requires or ()]
    return [str(entry) for entry in requirements if "extra" not in str(entry.marker or "")]


def _package_files() -> Iterator[tuple[str, bytes]]:
    package = Path(appliance.__file__).parent
    for path, data in _tree(package):
        if not path.startswith("content/"):
            yield f"{PROJECT}/{path}", data
    for folder in CONTENT:
        for path, data in _tree(content_root() / folder):
            yield f"{PROJECT}/content/{folder}/{path}", data


def _tree(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Files under ``folder`` by relative path; without caches and hidden files."""
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield "/".join(parts), path.read_bytes()


def _dist_info(distribution: metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    yield "WHEEL", _WHEEL
    for name in ("METADATA", "entry_points.txt"):
        yield name, (distribution.read_text(name) or "").encode()
    for file in distribution.files or ():
        if ".dist-info/licenses/" in file.as_posix():
            yield file.as_posix().partition(".dist-info/")[2], Path(str(file.locate())).read_bytes()


def _record(files: dict[str, bytes], record: str) -> bytes:
    lines = []
    for name in sorted(files):
        digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(files[name])}\n")
    return "".join([*lines, f"{record},,\n"]).encode()
