"""Resolving Python requirements for the node: uv decides, for a Python and a C library not our own."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from appliance.errors import PackageMissing, SourceUnreachable
from appliance.sources.stopping import run_program

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Sequence

    from appliance.definition.names import Target
    from appliance.sources.python_indexes import Indexes

_GLIBC_MINOR: Final = {"bookworm": 36, "trixie": 41}
# The newest C library that uv knows a platform for.
_UV_NEWEST_MINOR: Final = 40
# PEP 600: the names manylinux platforms had before they were named by glibc.
_LEGACY: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_MACHINE: Final = {"amd64": "x86_64"}

_NO_SOLUTION: Final = 1  # uv's exit status when the requirements cannot be met; 2 is any other failure


@dataclass(frozen=True)
class Platform:
    """What wheels must run on.

    ``name`` is what a person calls the system; ``python`` is "major.minor"; ``glibc`` the minor version
    of its C library 2; ``machine`` as the kernel names it.
    """

    name: str
    python: str
    glibc: int
    machine: str

    @classmethod
    def of(cls, target: Target) -> Platform:
        """The node's."""
        return cls(
            name=f"Debian {target.suite}",
            python=target.python,
            glibc=_GLIBC_MINOR[target.suite],
            machine=_MACHINE[target.architecture],
        )


@dataclass(frozen=True)
class Wheel:
    """One wheel of a resolution.  ``size`` (bytes) and ``sha256`` are None where the index is silent."""

    project: str
    version: str
    file: str
    url: str
    size: int | None
    sha256: str | None


def resolve_wheels(
    requirements: Sequence[str], platform: Platform, indexes: Indexes, stop: threading.Event
) -> list[Wheel]:
    """Exactly one wheel for each project that ``requirements`` need there, sorted by project.

    Markers are evaluated for that platform's Python.  Source distributions are not considered: the
    node has no compiler, and building is not reproducible.

    Raises:
        PackageMissing: no set of wheels fits the platform.
        SourceUnreachable: an index does not answer.
        Stopped: ``stop`` was set.
    """
    glibc = min(platform.glibc, _UV_NEWEST_MINOR)
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--format", "pylock.toml", "--quiet"]
    command += ["--python-version", platform.python]
    command += ["--python-platform", f"{platform.machine}-manylinux_2_{glibc}"]
    command += ["--only-binary", ":all:", "--no-python-downloads", "--no-header", "--no-annotate"]
    # pip weighs all configured indexes alike, and it is pip's configuration that is in force.
    command += ["--index-strategy", "unsafe-best-match"]
    if indexes.only_links:
        command.append("--no-index")
    wanted = "".join(f"{requirement}\n" for requirement in requirements)
    run = run_program(command, stop, text=wanted, environment=indexes.uv_environment())
    if run.returncode == _NO_SOLUTION:
        raise PackageMissing(
            f"no set of wheels for Python {platform.python} on {platform.name} satisfies the requirements",
            found=_one_line(run.stderr),
            wanted=", ".join(requirements),
            hint=f"check names and versions; every package needs a wheel for Python {platform.python}",
        )
    if run.returncode != 0:
        raise SourceUnreachable(
            "the Python package index does not answer",
            found=_one_line(run.stderr),
            hint="check this station's network and pip configuration",
        )
    packages = tomllib.loads(run.stdout).get("packages", [])
    tags = {tag: rank for rank, tag in enumerate(wheel_tags(platform))}
    chosen = (_choose(package, tags, platform) for package in packages)
    return sorted(chosen, key=lambda wheel: wheel.project)


def wheel_tags(platform: Platform) -> Iterator[Tag]:
    """The wheel tags that can be installed there, best first (PEP 425, PEP 600)."""
    platforms = []
    for minor in range(platform.glibc, 4, -1):
        platforms.append(f"manylinux_2_{minor}_{platform.machine}")
        if minor in _LEGACY:
            platforms.append(f"{_LEGACY[minor]}_{platform.machine}")
    platforms.append(f"linux_{platform.machine}")
    major, minor_text = platform.python.split(".")
    version = (int(major), int(minor_text))
    yield from cpython_tags(version, platforms=platforms)
    yield from compatible_tags(version, f"cp{version[0]}{version[1]}", platforms)


def _choose(package: dict[str, Any], tags: dict[Tag, int], platform: Platform) -> Wheel:
    """The best of a package's wheels for the platform (PEP 751, "packages.wheels")."""
    ranked = []
    for entry in package.get("wheels", []):
        place = str(entry.get("url") or entry["path"])
        file = unquote(urlsplit(place).path).rpartition("/")[2]
        fitting = [tags[tag] for tag in parse_wheel_filename(file)[3] if tag in tags]
        if fitting:
            ranked.append((min(fitting), file, place, entry))
    if not ranked:
        raise PackageMissing(
            f"{package['name']} {package['version']} has no wheel that {platform.name} can use",
            wanted=f"a wheel for Python {platform.python}, {platform.machine}",
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
