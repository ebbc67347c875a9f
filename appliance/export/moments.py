"""What both loops share: the clocks, and a status that stops nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ApplianceError
from appliance.export.exporter import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Seconds between two times that a loop says how it goes.
STATUS_EVERY: Final = 2.0


def moment() -> Moment:
    """Now."""
    return Moment(time.monotonic(), time.time_ns() // 1_000_000)


def tolerant(write: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    """A status that cannot be written, on a full disk, stops nothing."""

    def attempt(values: Mapping[str, Any]) -> None:
        try:
            write(values)
        except (OSError, ApplianceError):
            return

    return attempt
