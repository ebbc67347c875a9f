"""Ctrl-C, which must not be lost.

Python raises ``KeyboardInterrupt`` wherever the program happens to be, and drops it where nothing can be
raised: in a destructor, or in what is called when a weak reference dies, as whenever threads begin and end.
Of that it tells ``sys.unraisablehook``, and there the interrupt is asked for again, a moment later.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOMENT: Final = 0.02  # seconds


@contextmanager
def keeping_interrupts() -> Iterator[None]:
    """Let no ``KeyboardInterrupt`` be dropped; for the main thread.

    An alarm raises it again, since starting a thread here could wait for a lock that this one holds.
    """
    tell = sys.unraisablehook

    def ask_again(lost: sys.UnraisableHookArgs) -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _MOMENT)
        else:
            tell(lost)

    alarm = signal.signal(signal.SIGALRM, signal.default_int_handler)
    sys.unraisablehook = ask_again
    try:
        yield
    finally:
        sys.unraisablehook = tell
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
