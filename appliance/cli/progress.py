"""How progress looks: bars on a terminal, one line per phase and finished item elsewhere.

rich is imported only for bars: a command whose progress goes to a log starts faster without it.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Bars:
    """Two bars on a terminal: items done of total, and bytes done of total."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)
        self._bars: RichProgress | None = None
        self._items: TaskID | None = None
        self._bytes: TaskID | None = None

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as RichProgress

        self.end()
        byte_columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) if size else ()
        self._bars = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=self._console
        )
        self._items = self._bars.add_task(phase, total=items)
        if size:
            self._bars.columns = (TextColumn("{task.description}"), BarColumn(), *byte_columns)
            self._bars.update(self._items, visible=False)
            self._bytes = self._bars.add_task(f"{phase} (0 of {items})", total=size)
        self._count, self._total, self._phase = 0, items, phase
        self._bars.start()

    def advance(self, count: int) -> None:
        if self._bars and self._bytes is not None:
            self._bars.advance(self._bytes, count)

    def item(self, name: str) -> None:
        if not self._bars or self._items is None:
            return
        self._count += 1
        self._bars.advance(self._items)
        if self._bytes is not None:
            self._bars.update(self._bytes, description=f"{self._phase} ({self._count} of {self._total})")

    def end(self) -> None:
        if self._bars:
            self._bars.stop()
        self._bars = self._items = self._bytes = None

    def note(self, text: str) -> None:
        (self._bars.console if self._bars else self._console).print(text, highlight=False, markup=False)


class Lines:
    """Plain lines for logs and pipes: no escape codes, at most one line per item."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase, self._total, self._done = "", 0, 0

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self._phase, self._total, self._done = phase, items, 0
        extent = f"{items} items" + (f", {size / 1e6:,.1f} MB" if size else "")
        self._print(f"{phase}: {extent}")

    def advance(self, count: int) -> None:
        """Bytes alone are not worth a line in a log."""

    def item(self, name: str) -> None:
        with self._lock:
            self._done += 1
            self._print(f"{self._phase}: {self._done} of {self._total}: {name}")

    def end(self) -> None:
        """The last item's line already said so."""

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
