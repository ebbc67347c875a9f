"""Reading fields of a parsed JSON object: exact keys, exact types, each fault with its place.

Plain functions of our own instead of a schema library: verifying a bundle must start within
a fraction of a second, and these few rules are all that a root and a manifest need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from appliance.printable import printable
from appliance.trust.canonical import LARGEST_INTEGER

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from appliance.errors import ApplianceError

_LONGEST: Final = 300  # characters of a message: a key of a file may be as long as the file
_OURS: Final = "this file is not what a correct builder writes: obtain the bundle or root again"


class Record:
    """One JSON object at a named place of a file.

    Args:
        value: the parsed value; anything but an object is a fault.
        place: where it stands, for messages: ``manifest.json: components.model``.
        error: the class of the fault that is raised.
        hint: what to do about a fault.
    """

    def __init__(
        self, value: object, place: str, error: type[ApplianceError], *, hint: str = _OURS
    ) -> None:
        self._place = place
        self._error = error
        self._hint = hint
        if not isinstance(value, dict):
            self.refuse("not a JSON object", found=type(value).__name__, wanted="an object")
        self._values: dict[str, object] = value

    def refuse(self, message: str, *, found: str | None = None, wanted: str | None = None) -> NoReturn:
        """Raise this record's error, saying where; keys of the file in it are made safe to show."""
        raise self._error(
            printable(f"{self._place}: {message}"[:_LONGEST]),
            found=None if found is None else ascii(found)[:200],
            wanted=wanted,
            hint=self._hint,
        )

    def exactly(self, required: frozenset[str], optional: frozenset[str] = frozenset()) -> Record:
        """Refuse missing keys and unknown keys; returns the record itself."""
        names = self._values.keys()
        if missing := required - names:
            self.refuse("keys are missing", wanted=", ".join(sorted(missing)))
        if unknown := names - required - optional:
            self.refuse(
                "unknown keys",
                found=", ".join(sorted(unknown)),
                wanted=", ".join(sorted(required | optional)),
            )
        return self

    def names(self) -> tuple[str, ...]:
        """The keys, in the order of the file."""
        return tuple(self._values)

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, pattern: re.Pattern[str] | None = None, *, most: int = 4096) -> str:
        """Printable text of 1 to ``most`` characters that matches ``pattern`` wholly."""
        value = self._values[key]
        if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
            # isprintable() is False for control, bidirectional and zero-width characters.
            self.refuse(f"{key} is not printable text", found=str(value), wanted=f"1 to {most} characters")
        if pattern and not pattern.fullmatch(value):
            self.refuse(f"{key} is misspelled", found=value, wanted=pattern.pattern)
        return value

    def number(self, key: str, *, least: int = 0, most: int = LARGEST_INTEGER) -> int:
        """A whole number from ``least`` to ``most``."""
        value = self._values[key]
        if type(value) is not int or not least <= value <= most:
            self.refuse(f"{key} is out of range", found=str(value), wanted=f"{least} to {most}")
        return value

    def flag(self, key: str) -> bool:
        value = self._values[key]
        if not isinstance(value, bool):
            self.refuse(f"{key} is not true or false", found=str(value))
        return value

    def raw(self, key: str) -> object:
        """A value that is judged elsewhere."""
        return self._values[key]

    def none(self, key: str) -> bool:
        """Whether the value is ``null``."""
        return self._values[key] is None

    def items(self, key: str) -> list[object]:
        """The values of a JSON array."""
        value = self._values[key]
        if not isinstance(value, list):
            self.refuse(f"{key} is not a list", found=type(value).__name__)
        return value

    def record(self, key: str) -> Record:
        """The JSON object under ``key``."""
        return Record(self._values[key], f"{self._place}.{key[:80]}", self._error, hint=self._hint)

    def records(self, key: str) -> Iterator[Record]:
        """The objects of a JSON array."""
        for number, value in enumerate(self.items(key)):
            yield Record(value, f"{self._place}.{key}[{number}]", self._error, hint=self._hint)
