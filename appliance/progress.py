"""What long work reports while it runs.

The core calls these methods; who shows them (a bar, JSON lines, nothing) is decided in
``appliance.cli``.  Methods may be called from several threads.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    #: ``Progress.beside`` of some receiver.
    Beside = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class Progress(Protocol):
    """Receiver of "n of total" reports.  A phase runs from ``begin`` to ``end``."""

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        """A phase starts: ``items`` things, together ``size`` bytes (None: not known)."""

    def advance(self, count: int) -> None:
        """``count`` more bytes of the phase are done."""

    def item(self, name: str, count: int = 1) -> None:
        """One more item of the phase is done, or ``count`` of which ``name`` is the last."""

    def beside(self, name: str, size: int) -> AbstractContextManager[Callable[[int], None]]:
        """Something long within the phase that its own count does not show: ``size`` bytes of one file.

        Used as ``with progress.beside(name, size) as advance:``; ``advance(count)`` says that ``count``
        more bytes of it are done.  Several may be under way at the same time.
        """

    def end(self) -> None:
        """The phase is over."""

    def note(self, text: str) -> None:
        """One line worth telling that is not part of the result."""


class Silent:
    """A ``Progress`` that shows nothing."""

    def begin(self, phase: str, items: int, size: int | None = None) -> None: ...
    def advance(self, count: int) -> None: ...
    def item(self, name: str, count: int = 1) -> None: ...
    def end(self) -> None: ...
    def note(self, text: str) -> None: ...

    @contextmanager
    def beside(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        yield lambda _: None


class NotesOnce:
    """Tells another ``Progress`` everything, but no line twice: for work that comes by a place again."""

    def __init__(self, progress: Progress) -> None:
        self._told: set[str] = set()
        self._note = progress.note
        self.begin, self.advance, self.item = progress.begin, progress.advance, progress.item
        self.beside, self.end = progress.beside, progress.end

    def note(self, text: str) -> None:
        """Pass a line on if it is new."""
        if text not in self._told:
            self._told.add(text)
            self._note(text)
