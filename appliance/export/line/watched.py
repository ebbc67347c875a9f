"""What the exporter knows of its own walls: it may not ask the kernel, so it reads what the watcher wrote.

Digests go into every checkpoint; a frame that came in, or a wall that is amiss, becomes a record, which
leaves like any other.  What was not written anew for a while is not believed: then checkpoints are without
digests, and a record says that nobody watches.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from appliance.export.sources.source import own_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.export.exporter import Moment

#: Seconds by the steady clock; the watcher writes every two.
STALE: Final = 15.0
#: Seconds between two records about frames that came in: a talkative neighbour shall not fill the line.
_AGAIN: Final = 10.0


class Watched:
    """The walls as they were last seen.

    Args:
        read: gives the watcher's file, b"" where there is none.
    """

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._values: Mapping[str, Any] = {}
        self._seen: float | None = None
        self._told = 0
        self._told_at: float | None = None
        self._amiss: tuple[str, ...] = ()
        self._fresh = True
        self.received = 0

    @property
    def digests(self) -> dict[str, str]:
        """For a checkpoint; none if nobody watches."""
        found = self._values.get("digests") if self._fresh else {}
        return {str(name): str(digest) for name, digest in found.items()} if isinstance(found, dict) else {}

    @property
    def status(self) -> dict[str, Any]:
        """Frames that came in since the line is up, what is amiss, and whether anybody watches."""
        return {"received": self.received, "faults": list(self._amiss), "watched": self._fresh}

    def look(self, now: Moment) -> list[bytes]:
        """Read what was written; returns records about what is new and bad."""
        values = _values(self._read())
        if self._seen is None:  # what was written before we started is as old as it says
            self._seen = now.steady - _age(values, now)
        elif values.get("time") != self._values.get("time"):
            self._seen = now.steady
        was_fresh, self._values = self._fresh, values
        self._fresh = bool(values) and now.steady - self._seen < STALE
        found = []
        if was_fresh and not self._fresh:
            found.append(own_word(now.wall, "unwatched", "nobody watches the export's walls"))
        if not self._fresh:
            return found
        faults = values.get("faults")
        amiss = tuple(map(str, faults)) if isinstance(faults, list) else ()
        if amiss != self._amiss:
            message = (
                f"the export's walls: {'; '.join(amiss)}" if amiss else "the export's walls stand again"
            )
            found.append(own_word(now.wall, "amiss" if amiss else "stands", message))
        self._amiss = amiss
        received = values.get("received")
        self.received = max(self.received, received if type(received) is int else 0)
        return found + self._risen(now)

    def _risen(self, now: Moment) -> list[bytes]:
        due = self._told_at is None or now.steady - self._told_at >= _AGAIN
        if self.received <= self._told or not due:
            return []
        count, self._told, self._told_at = self.received - self._told, self.received, now.steady
        message = (
            f"{count} frames came in at the export's card, {self.received} since it is up: something sends"
        )
        return [own_word(now.wall, "received", message, count=count, total=self.received)]


def _age(values: Mapping[str, Any], now: Moment) -> float:
    """Seconds since it was written, by the clock that wrote it; 0 for what that clock has yet to reach."""
    time = values.get("time")
    return max(0.0, (now.wall - time) / 1000) if type(time) is int else 0.0


def _values(data: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(data)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
