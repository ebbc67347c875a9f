"""One check of preflight and what came of it.

Every check says its name, what was found, what was wanted and what to do.  Names are stable; they are
printed in JSON.  ``level`` is ``must`` for what stops an installation and ``information`` for the rest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, Literal

Level = Literal["must", "information"]
#: What is wanted of something that nobody asked for.
NOT_ASKED: Final = "not asked for"


@dataclass(frozen=True)
class Check:
    """One verdict.  ``passed`` None: could not be tried.  ``where``: the place in a file, if any."""

    name: str
    passed: bool | None
    found: str
    wanted: str
    hint: str = ""
    level: Level = "must"
    where: str = ""

    @property
    def stops(self) -> bool:
        return self.level == "must" and self.passed is not True

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def level_of(*, asked: bool) -> Level:
    """The level of a check of something that a bundle may ask for."""
    return "must" if asked else "information"


def on_or_off(*, on: bool | None) -> str:
    """A switch in words; None: nobody says."""
    return {True: "on", False: "off", None: "not said"}[on]
