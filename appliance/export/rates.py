"""How much of what is counted comes in a second, over the last ten or so.  Pure: time is given."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that are looked back.
SPAN: Final = 10.0
_DIGITS: Final = 3


_DAY: Final = 86_400.0
#: As good as never.
_MANY_DAYS: Final = 9999.0


def days_left(room: int, rate: float) -> float | None:
    """How long a spool takes what comes if nothing can leave any more; None if nothing comes.

    Args:
        room: bytes that it has for blocks still.
        rate: bytes in a second.
    """
    return round(min(room / rate / _DAY, _MANY_DAYS), _DIGITS) if rate > 0 else None


class Rates:
    """Counters that are looked at now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Mapping[str, float]]] = deque()

    def over(self, counters: Mapping[str, float], now: float) -> dict[str, float]:
        """How much each grew in a second; none of one that was not there before.

        Args:
            counters: as they are now.
            now: seconds of a clock that never goes back.
        """
        self._seen.append((now, dict(counters)))
        while len(self._seen) > 2 and now - self._seen[1][0] >= SPAN:  # noqa: PLR2004 - two ends
            self._seen.popleft()
        then, before = self._seen[0]
        if now <= then:
            return dict.fromkeys(counters, 0.0)
        return {
            name: round((value - before.get(name, value)) / (now - then), _DIGITS)
            for name, value in counters.items()
        }
