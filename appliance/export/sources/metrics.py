"""Metrics of local Prometheus endpoints as a source: a snapshot of each, every so many seconds.

A thread asks, so that an endpoint that is slow keeps nobody waiting.  What could not be had is said by a
tombstone, so that an absent snapshot is no lost one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from appliance.export.sources.scraping import scrape
from appliance.export.sources.snapshot import snapshot
from appliance.export.sources.source import Taken, tombstone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.export.sources.endpoint import Endpoint

NOT_SCRAPED: Final = "not-scraped"
#: Records that wait to be read; as long as nobody reads them, nobody is asked.
_MOST: Final = 1024


class MetricsSource:
    """Snapshots of these endpoints.

    Args:
        endpoints: where from.
        every: seconds between two snapshots.
        now: ms since 1970.
    """

    name = "metrics"
    patient = False

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        every: float,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.ended, self.trouble = False, ""
        self._endpoints, self._every, self._now = endpoints, every, now
        self._found: deque[Taken] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._every, time.monotonic())
            if len(self._found) < _MOST:
                self.ask()

    def ask(self) -> None:
        """Ask every endpoint once."""
        troubles = []
        for endpoint in self._endpoints:
            at = self._now()
            try:
                self._found += snapshot(endpoint.name, scrape(endpoint), at)
            except Exception as fault:  # noqa: BLE001 -- whatever one endpoint says, the others are asked
                cause = str(fault) if isinstance(fault, OSError | ValueError) else repr(fault)
                troubles.append(f"{endpoint.name}: {cause}")
                words = tombstone(endpoint.name, NOT_SCRAPED, at, cause=cause[:200])
                self._found.append(Taken(words, stated=True))
        self.trouble = "; ".join(troubles)[:500]

    def fileno(self) -> int:
        return -1

    def read(self) -> list[Taken]:
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._found.popleft())
        return found

    def rest(self) -> list[Taken]:
        """Snapshots that were made; nobody is asked any more."""
        self._stop.set()
        return self.read()

    def settled(self, position: str) -> None:
        """Nothing: the next snapshot says it anew."""

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
