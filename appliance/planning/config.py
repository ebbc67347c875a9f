"""A model's own description (``config.json``), read so that every wrong value is named.

Values are a stranger's.  A key that is there is of the right kind and in bounds, or the file is refused:
a plan made from half a description would be worse than none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ModelMisdescribed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MOST: Final = 1 << 31  # of layers, heads, widths; far beyond any model, and sums of it stay small


class Config:
    """Keys of a ``config.json`` by kind; ``path`` is its name in messages."""

    def __init__(self, values: Mapping[str, Any], path: Path | str) -> None:
        self._values = values
        self.path = path

    def wrong(self, message: str, *, found: str, wanted: str) -> ModelMisdescribed:
        """The error for something that this file says and that cannot be."""
        return ModelMisdescribed(
            f"{self.path}: {message}",
            found=found,
            wanted=wanted,
            hint="fetch the model again from its makers; a description and weights belong together",
        )

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self._values.get(key) is not None

    def keys(self) -> tuple[str, ...]:
        """The keys, in the file's order."""
        return tuple(self._values)

    def filled(self, key: str) -> bool:
        """Whether the key holds anything: not null, not an empty list."""
        return bool(self._values.get(key))

    def count(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number; ``default`` where the key is missing or null.

        Raises:
            ModelMisdescribed: it is missing without a default, or is no number from ``least`` on.
        """
        value = self._values.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not least <= value <= _MOST:
            raise self.wrong(
                f"{key} is missing" if value is None else f"{key} is no possible number",
                found="nothing" if value is None else _shown(value),
                wanted=f"a whole number from {least} on",
            )
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A boolean."""
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(
                f"{key} is neither true nor false", found=_shown(value), wanted="true or false"
            )
        return value

    def text(self, key: str) -> str | None:
        """Text; None where it is missing."""
        value = self._values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(f"{key} is no text", found=_shown(value), wanted="text")
        return value

    def texts(self, key: str) -> list[str] | None:
        """A list of texts; None where it is missing."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(f"{key} is no list of texts", found=_shown(value), wanted="a list of texts")
        return value

    def below(self, key: str) -> Config | None:
        """The object at ``key``; None where it is missing."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(f"{key} is no object", found=_shown(value), wanted="an object")
        return Config(value, f"{self.path}, {key}")

    def divided(self, key: str, by: str, numbers: tuple[int, int]) -> int:
        """``numbers[0] / numbers[1]``, which these keys give and which must be whole."""
        whole, rest = divmod(numbers[0], numbers[1])
        if rest or not whole:
            raise self.wrong(
                f"{key} does not divide by {by}",
                found=f"{numbers[0]} and {numbers[1]}",
                wanted="a whole number of each",
            )
        return whole


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a line of a terminal
