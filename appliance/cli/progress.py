"""How progress looks: bars on a terminal, now and then a line elsewhere.

rich is imported only for bars: a command whose progress goes to a log starts faster without it.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES: Final = 2.0


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

    def item(self, name: str, count: int = 1) -> None:
        if not self._bars or self._items is None:
            return
        self._count += count
        self._bars.advance(self._items, count)
        if self._bytes is not None:
            self._bars.update(self._bytes, description=f"{self._phase} ({self._count} of {self._total})")

    @contextmanager
    def beside(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """A bar below those of the phase, as long as it takes."""
        bars = self._bars
        if bars is None:
            yield lambda _: None
            return
        task = bars.add_task(name, total=size)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.remove_task(task)

    def end(self) -> None:
        if self._bars:
            self._bars.stop()
        self._bars = self._items = self._bytes = None

    def note(self, text: str) -> None:
        (self._bars.console if self._bars else self._console).print(text, highlight=False, markup=False)


class Lines:
    """Plain lines for logs and pipes: no escape codes, at most one line every two seconds.

    A phase that is over sooner says so in one line, however many items it had.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._phase: str | None = None

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        self.end()
        self._phase, self._items, self._size = phase, items, size
        self._items_done = self._bytes_done = 0
        self._started = self._told = self._clock()

    def advance(self, count: int) -> None:
        with self._lock:
            self._bytes_done += count
            self._tell_sometimes("")

    def item(self, name: str, count: int = 1) -> None:
        with self._lock:
            self._items_done += count
            self._tell_sometimes(f": {name}")

    @contextmanager
    def beside(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """Lines of its own, at most one every two seconds."""
        done, told = 0, self._clock()

        def advance(count: int) -> None:
            nonlocal done, told
            done += count
            if self._clock() - told >= SECONDS_BETWEEN_LINES:
                told = self._clock()
                self._print(f"{name}: {done / 1e6:,.1f} of {size / 1e6:,.1f} MB")

        yield advance

    def end(self) -> None:
        if self._phase is None:
            return
        seconds = self._clock() - self._started
        self._print(f"{self._where()} in {seconds:.1f} s")
        self._phase = None

    def note(self, text: str) -> None:
        self._print(text)

    def _tell_sometimes(self, detail: str) -> None:
        if self._phase is not None and self._clock() - self._told >= SECONDS_BETWEEN_LINES:
            self._told = self._clock()
            self._print(self._where() + detail)

    def _where(self) -> str:
        sizes = f", {self._bytes_done / 1e6:,.1f} of {self._size / 1e6:,.1f} MB" if self._size else ""
        return f"{self._phase}: {self._items_done} of {self._items}{sizes}"

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
