"""What long work reports while it runs.

The core calls these methods; who shows them (a bar, JSON lines, nothing) is decided in
``appliance.cli``.  Methods may be called from several threads.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receiver of "n of total" reports.  A phase runs from ``begin`` to ``end``."""

    def begin(self, phase: str, items: int, size: int | None = None) -> None:
        """A phase starts: ``items`` things, together ``size`` bytes (None: not known)."""

    def advance(self, count: int) -> None:
        """``count`` more bytes of the phase are done."""

    def item(self, name: str, count: int = 1) -> None:
        """One more item of the phase is done, or ``count`` of which ``name`` is the last."""

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
