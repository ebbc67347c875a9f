"""One check of preflight and what came of it.

Every check says its name, what was found, what was wanted and what to do.  Names are stable; they are
printed in JSON.  ``level`` is ``must`` for what stops an installation and ``information`` for the rest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["must", "information"]


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
