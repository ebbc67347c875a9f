"""Metrics for a sender in a network namespace of its own, whose loopback is another one than ours.

Snapshots are scraped out here and handed to the sender's local socket, which is a name in the file system
and so the same in every namespace.  Nobody waits: what the sender does not take at once is counted, and the
next snapshot that it takes is preceded by a word on how many records were not.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from appliance.export.sources.source import as_record

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from appliance.export.sources.source import Source

STREAM: Final = "scraper"
_LOOK: Final = 0.2
_ROOM: Final = 1 << 20


class Handing:
    """From a source to a local socket.

    Args:
        source: of snapshots.
        path: the sender's socket; it may come and go.
        now: ms since 1970.
    """

    def __init__(
        self,
        source: Source,
        path: Path,
        *,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._source, self._path, self._now = source, path, now
        self.given = 0
        self.missed = 0
        self._unsaid = 0

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
            while not stop.wait(_LOOK):
                self.hand_over(out)

    def hand_over(self, out: socket.socket) -> None:
        """Give what there is now."""
        for taken in self._source.read():
            if self._unsaid:
                fields = {"not_taken": self._unsaid}
                words = as_record({"stream": STREAM, "time": self._now(), "fields": fields})
                self._unsaid = 0 if self._sent(out, words) else self._unsaid
            if self._sent(out, taken.record):
                self.given += 1
            else:
                self.missed += 1
                self._unsaid += 1

    def _sent(self, out: socket.socket, record: bytes) -> bool:
        try:
            out.sendto(record, str(self._path))
        except OSError:  # full, gone, or not ours to write to
            return False
        return True
