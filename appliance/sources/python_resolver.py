"""Resolving Python requirements for the node: uv decides, for a Python and a C library not our own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from appliance.errors import PackageMissing, SourceUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.definition.names import Target
    from appliance.sources.python_indexes import Indexes

# The C library of each suite, and the newest platform uv knows that runs on it.
_GLIBC_MINOR: Final = {"bookworm": 36, "trixie": 41}
_UV_NEWEST_MINOR: Final = 40
# PEP 600: the names manylinux platforms had before they were named by glibc.
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACHINE: Final = {"amd64": "x86_64"}

_NO_SOLUTION: Final = 1  # uv's exit status when the requirements cannot be met; 2 is any other failure


@dataclass(frozen=True)
class Wheel:
    """One wheel of a resolution.  ``size`` (bytes) and ``sha256`` are None where the index is silent."""

    project: str
    version: str
    file: str
    url: str
    size: int | None
    sha256: str | None


def resolve_wheels(requirements: Sequence[str], target: Target, indexes: Indexes) -> list[Wheel]:
    """Exactly one wheel for each project that ``requirements`` need on the target, sorted by project.

    Markers are evaluated for the node's Python.  Source distributions are not considered: the node
    has no compiler, and building is not reproducible.

    Raises:
        PackageMissing: no set of wheels fits the target.
        SourceUnreachable: an index does not answer.
    """
    machine = _MACHINE[target.architecture]
    glibc = min(_GLIBC_MINOR[target.suite], _UV_NEWEST_MINOR)
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--format", "pylock.toml", "--quiet"]
    command += ["--python-version", target.python, "--python-platform", f"{machine}-manylinux_2_{glibc}"]
    command += ["--only-binary", ":all:", "--no-python-downloads", "--no-header", "--no-annotate"]
    # pip weighs all configured indexes alike, and it is pip's configuration that is in force.
    command += ["--index-strategy", "unsafe-best-match"]
    if indexes.only_links:
        command.append("--no-index")
    run = subprocess.run(
        command,
        input="\n".join(requirements) + "\n",
        capture_output=True,
        text=True,
        check=False,
        env=indexes.uv_environment(),
    )
    if run.returncode == _NO_SOLUTION:
        raise PackageMissing(
            f"no set of wheels for Python {target.python} on {target.suite} satisfies the requirements",
            found=_one_line(run.stderr),
            wanted=", ".join(requirements),
            hint="check names and versions; every package needs a wheel for the node's Python",
        )
    if run.returncode != 0:
        raise SourceUnreachable(
            "the Python package index does not answer",
            found=_one_line(run.stderr),
            hint="check this station's network and pip configuration",
        )
    packages = tomllib.loads(run.stdout).get("packages", [])
    tags = {tag: rank for rank, tag in enumerate(target_tags(target))}
    return sorted((_choose(package, tags, target) for package in packages), key=lambda wheel: wheel.project)


def target_tags(target: Target) -> Iterator[Tag]:
    """The wheel tags the node can install, best first (PEP 425, PEP 600)."""
    machine = _MACHINE[target.architecture]
    platforms = []
    for minor in range(_GLIBC_MINOR[target.suite], 4, -1):
        platforms.append(f"manylinux_2_{minor}_{machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{machine}")
    platforms.append(f"linux_{machine}")
    major, minor_text = target.python.split(".")
    version = (int(major), int(minor_text))
    yield from cpython_tags(version, platforms=platforms)
    yield from compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)


def _choose(package: dict[str, Any], tags: dict[Tag, int], target: Target) -> Wheel:
    """The best of a package's wheels for the target (PEP 751, "packages.wheels")."""
    ranked = []
    for entry in package.get("wheels", []):
        place = str(entry.get("url") or entry["path"])
        file = unquote(urlsplit(place).path).rpartition("/")[2]
        fitting = [tags[tag] for tag in parse_wheel_filename(file)[3] if tag in tags]
        if fitting:
            ranked.append((min(fitting), file, place, entry))
    if not ranked:
        raise PackageMissing(
            f"{package['name']} {package['version']} has no wheel that Debian {target.suite} can use",
            wanted=f"a wheel for Python {target.python}, {target.architecture}",
        )
    _, file, place, entry = min(ranked, key=lambda candidate: candidate[:2])
    return Wheel(
        project=package["name"],
        version=package["version"],
        file=file,
        url=place if urlsplit(place).scheme else Path(place).absolute().as_uri(),
        size=entry.get("size"),
        sha256=entry.get("hashes", {}).get("sha256"),
    )


def _one_line(messages: str) -> str:
    return " ".join(line.strip() for line in messages.splitlines())[:600]
