"""The base of all errors: what failed, what was found, what was wanted, what to do.  Exit code 2 too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Location:
    """A place in a file a person edits: one-based line and column."""

    path: Path | str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class ApplianceError(Exception):
    """Base of every error this program reports to a person.

    Args:
        message: what failed, in one sentence.
        found: what was there.
        wanted: what should have been there.
        hint: what to do next.
        where: the place in an edited file, when there is one.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        found: str | None = None,
        wanted: str | None = None,
        hint: str | None = None,
        where: Location | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.found = found
        self.wanted = wanted
        self.hint = hint
        self.where = where

    @property
    def name(self) -> str:
        """Stable name, as printed in JSON."""
        return type(self).__name__

    def as_dict(self) -> dict[str, object]:
        """The error as JSON values; absent parts are left out."""
        parts: dict[str, object] = {
            "error": self.name,
            "exit_code": self.exit_code,
            "message": self.message,
        }
        optional = {
            "found": self.found,
            "wanted": self.wanted,
            "hint": self.hint,
            "where": str(self.where) if self.where else None,
        }
        parts.update({key: value for key, value in optional.items() if value is not None})
        return parts


class Usage(ApplianceError):
    """The command line asks for something that makes no sense."""

    exit_code = 2
