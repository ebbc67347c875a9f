"""What starts by itself on a node: which of it must not, and which nobody has judged.  Pure.

The rules:

* A unit that is to be stopped is masked and inactive.  One that the node does not have is left alone.
* What starts by itself are units that are enabled or at work, and scripts that cron or a login runs.
  A unit's state ``static`` means that something else starts it, and is judged there, unless it is at work.
* Known is what a pattern of the data names.  The rest is unknown: not forbidden, but seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Kinds of units that can run a program or wait to start one.
KINDS = (".service", ".socket", ".timer", ".path")

AT_WORK = frozenset({"active", "activating", "reloading"})
BY_ITSELF = frozenset({"enabled", "enabled-runtime"})


class Unwilling(Exception):
    """systemd does not do what it is asked; the text says what it wrote."""


@dataclass(frozen=True)
class Unit:
    """A unit of the node: ``file`` is its unit file's state, ``active`` its own."""

    name: str
    file: str = ""
    active: str = "inactive"

    @property
    def starts(self) -> bool:
        return self.file in BY_ITSELF or self.active in AT_WORK


@dataclass(frozen=True)
class Difference:
    """One unit that is not as wanted; ``wanted`` is masked or on."""

    unit: str
    found: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.unit}: {self.found} -> {self.wanted}"


def parse_files(listing: str) -> dict[str, str]:
    """``{unit: state}`` from ``systemctl list-unit-files``."""
    rows = [line.split() for line in listing.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) > 1}


def parse_loaded(listing: str) -> dict[str, str]:
    """``{unit: active state}`` from ``systemctl list-units --all --plain``, without what is not there."""
    rows = [line.split() for line in listing.splitlines()]
    return {row[0]: row[2] for row in rows if len(row) > 3 and row[1] != "not-found"}  # noqa: PLR2004 - columns


def units(files: Mapping[str, str], loaded: Mapping[str, str]) -> dict[str, Unit]:
    """Every unit by name, from both listings."""
    names = sorted({*files, *loaded})
    return {name: Unit(name, files.get(name, ""), loaded.get(name, "inactive")) for name in names}


def differences(
    present: Mapping[str, Unit],
    off: Iterable[str],
    on: Iterable[str],
    *,
    own_kernel: bool = True,
) -> list[Difference]:
    """What is to be masked or turned on.

    Args:
        present: the node's units.
        off: names or patterns of units.
        on: units that are wanted, and so are not stopped whatever ``off`` says.
        own_kernel: False in a container, whose clock and records are its host's: what is wanted is then
            enabled, and need not run.

    Returns:
        In the order of the data; empty when nothing is to be done.
    """
    wanted = set(on)
    found: dict[str, Difference] = {}
    for pattern in off:
        for name, unit in present.items():
            if name in wanted or name in found or not fnmatchcase(name, pattern):
                continue
            if not unit.file.startswith("masked") or unit.active in AT_WORK:
                found[name] = Difference(name, words(unit), "masked")
    for name in on:
        unit = present.get(name, Unit(name))
        if unit.file not in BY_ITSELF or (own_kernel and unit.active not in AT_WORK):
            found[name] = Difference(name, words(unit), "on")
    return list(found.values())


def words(unit: Unit) -> str:
    """A unit's two states."""
    return f"{unit.file or 'no file'}, {unit.active}"


def unknown_units(present: Mapping[str, Unit], patterns: Iterable[str]) -> list[str]:
    """Units that start by themselves and match no pattern, sorted."""
    known = tuple(patterns)
    return sorted(
        name
        for name, unit in present.items()
        if unit.starts and name.endswith(KINDS) and not any(fnmatchcase(name, each) for each in known)
    )


def unknown_scripts(paths: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """Scripts that cron or a login runs and that match no pattern, sorted."""
    known = tuple(patterns)
    return sorted(path for path in paths if not any(fnmatchcase(path, each) for each in known))
