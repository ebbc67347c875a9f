"""When what may leave: a bucket of tokens for the line, passes over the spool.  Pure: time is given.

The line is never faster than the far side can take it, since that one cannot say so.  Every block is sent
at once, again after 30 seconds and after ten minutes, so that a line that was cut for a while loses
nothing, and again whenever there is nothing better to do.  New blocks always go first.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

#: Seconds after a block was made; of each pass.
DELAYS: Final = (0.0, 30.0, 600.0)
#: Bytes that leave at once: some fifty packets, a switch's smallest buffer.
_BURST: Final = 64_000
#: Seconds of the rate that leave together, where that is more: no sleep is shorter than some of these.
_STEP: Final = 0.001
_SLEEP: Final = 0.002
#: Seconds of a constant rate that may be made good after a wait, for the disk mostly.
_CATCH_UP: Final = 0.25
#: Blocks made within so many seconds are due together.
_GRAIN: Final = 1.0
#: When the line is too slow for long, the oldest of these are forgotten: their blocks are due a bit later.
_MAX_MARKS: Final = 4096


@dataclass
class TokenBucket:
    """Bytes that may leave: ``rate`` of them in a second, ``burst`` at once, at first ``start``.

    Once it is in debt nothing may leave until there are ``step`` bytes, so that what is slower than whoever
    fills the line leaves a few at a time, and not one.
    """

    rate: float
    burst: float
    start: float = float("inf")
    step: float = 0.0
    _level: float = field(init=False)
    _at: float | None = None
    _in_debt: bool = False

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burst <= 0:
            raise ValueError("a rate and a burst are above zero")
        self._level = min(self.start, self.burst)

    def take(self, size: int, now: float) -> bool:
        """Take so many bytes, if the bucket is not in debt; more than there is makes a debt.

        Args:
            size: bytes.
            now: seconds of a clock that never goes back.
        """
        self._fill(now)
        if self._in_debt:
            return False
        self._level -= size
        self._in_debt = self._level <= 0
        return True

    def fits(self, size: int, now: float) -> int:
        """How often so many bytes could be taken, one after the other."""
        self._fill(now)
        return 0 if self._in_debt else math.ceil(self._level / size)

    def wait(self, now: float) -> float:
        """Seconds until something may be taken."""
        self._fill(now)
        return max(0.0, (self.step - self._level) / self.rate + 1e-6) if self._in_debt else 0.0

    def _fill(self, now: float) -> None:
        if self._at is not None and now > self._at:
            self._level = min(self.burst, self._level + (now - self._at) * self.rate)
            if self._level > 0 and self._level >= self.step:
                self._in_debt = False
        self._at = now if self._at is None else max(now, self._at)


def line_bucket(rate: float, *, constant: bool) -> TokenBucket:
    """Of a line: bytes in a second.  A constant one makes good what a wait cost: who counts sees none."""
    burst = max(_BURST, rate * _SLEEP)
    step = min(rate * _STEP, _BURST)
    return TokenBucket(rate, max(burst, rate * _CATCH_UP) if constant else burst, _BURST, step)


@dataclass
class Passes:
    """The next block of each pass; ``end`` is the block that is made next."""

    next: list[int]
    end: int
    delays: tuple[float, ...] = DELAYS
    _marks: deque[tuple[float, float, int]] = field(default_factory=deque)

    def made(self, end: int, now: float) -> None:
        """All blocks below ``end`` are made and on the disk."""
        self.end = end
        if self._marks and now - self._marks[-1][0] < _GRAIN:
            began = self._marks.pop()[0]
            self._marks.append((began, now, end))
        else:
            self._marks.append((now, now, end))
            if len(self._marks) > _MAX_MARKS:
                self._marks.popleft()

    @property
    def fresh(self) -> bool:
        """Whether a block was not sent at all yet."""
        return self.next[0] < self.end

    def due(self, now: float) -> int | None:
        """The pass whose next block may be sent; None if all wait."""
        for number, delay in enumerate(self.delays):
            if self.next[number] < self._limit(delay, now):
                return number
        return None

    def _limit(self, delay: float, now: float) -> int:
        """The block below which all were made so long ago, and sent in the first pass."""
        if not delay:
            return self.end
        found = 0
        for _, at, end in self._marks:
            if at > now - delay:
                break
            found = end
        return min(found, self.next[0])

    def wait(self, now: float) -> float | None:
        """Seconds until a pass is due that is not due yet; None if nothing will be."""
        times = [
            at + delay - now
            for number, delay in enumerate(self.delays)
            for _, at, end in self._marks
            if end > self.next[number] and at + delay > now
        ]
        return min(times, default=None)

    def sent(self, number: int, following: int) -> None:
        """A pass has sent what is before this block."""
        self.next[number] = max(self.next[number], following)
        while self._marks and self._marks[0][2] <= min(self.next):
            self._marks.popleft()
