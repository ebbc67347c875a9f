"""From sources to the exporter: what is ready is read, what may not leave is left out, nobody waits.

A patient source is not read while the spool has no room; what was read of it already is held here and is
the next to be taken.  All other sources are read at once, always.
"""

from __future__ import annotations

import selectors
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self

from appliance.export.moments import moment
from appliance.export.sources.source import own_word

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from appliance.export.exporter import Exporter, Moment
    from appliance.export.sources.source import Source, Taken

#: Seconds between two looks at what cannot be waited for, such as a file that grows.
LOOK_EVERY: Final = 0.2


class Intake:
    """The sources of one sender.

    Args:
        sources: they.
        exporter: takes their records.
        select: what of a record may leave; None: all.
    """

    def __init__(
        self, sources: Sequence[Source], exporter: Exporter, select: Callable[[bytes], bytes] | None
    ) -> None:
        self._sources, self._exporter, self._select = sources, exporter, select
        self._held: dict[str, deque[Taken]] = {}
        self._waiting = selectors.PollSelector()  # which takes files, too
        self._settled: Mapping[str, str] = {}
        self._troubles: dict[str, str] = {}
        self._look = 0.0
        self.records = 0
        self.dropped = 0

    def __enter__(self) -> Self:
        for each in self._sources:
            self._wait_for(each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.close()

    def _wait_for(self, source: Source) -> None:
        if source.fileno() >= 0 and not source.ended:
            self._waiting.register(source.fileno(), selectors.EVENT_READ, source)

    @property
    def ended(self) -> bool:
        """Whether no source will have anything any more."""
        return all(each.ended for each in self._sources)

    def read(self, timeout: float) -> None:
        """Wait for so many seconds at most, and take what is there."""
        if not self.ended:
            timeout = min(timeout, LOOK_EVERY) if self._looks else timeout
        if self._waiting.get_map():
            for key, _ in self._waiting.select(timeout):
                self._read(key.data)
        elif timeout:
            time.sleep(timeout)
        if self._looks and (now := time.monotonic()) >= self._look:
            self._look = now + LOOK_EVERY
            for each in self._sources:
                if each.patient or each.fileno() < 0:
                    self._read(each)

    @property
    def _looks(self) -> bool:
        """Whether there is a source that must be looked at, too: it cannot be waited for, or may end."""
        return any(each.patient or each.fileno() < 0 for each in self._sources)

    def _read(self, source: Source) -> None:
        held = self._held.get(source.name)
        if held:
            self._give(source, held)
            return
        self._give(source, deque(source.read()))
        if source.ended and source.fileno() >= 0:
            self._waiting.unregister(source.fileno())

    def _give(self, source: Source, found: deque[Taken]) -> None:
        """Give these to the exporter; of a patient source what it takes, and the rest is held."""
        now, select = moment(), self._select
        name, exporter = source.name, self._exporter
        patient = source.patient
        take = exporter.take if patient else exporter.offer
        while found:
            record, position, stated = found[0]
            kept = record if select is None or stated else select(record)
            if not take(kept, now, name, position):
                if patient:
                    break
                self.dropped += 1
            self.records += 1
            found.popleft()
        self._hold(source, found)

    def _hold(self, source: Source, found: deque[Taken]) -> None:
        """Remember what was not taken, and read nothing more as long as there is some."""
        was = source.name in self._held
        if found:
            self._held[source.name] = found
            if not was and source.fileno() >= 0:
                self._waiting.unregister(source.fileno())
        elif was:
            del self._held[source.name]
            self._wait_for(source)

    def last(self) -> None:
        """At an orderly end: take what was given to us, since nobody can be asked for it again."""
        for each in self._sources:
            if not each.patient:
                self._give(each, deque(each.rest()))

    def news(self, now: Moment) -> list[bytes]:
        """Of each source whose trouble is another one than last time, a record that says so."""
        found = []
        for each in self._sources:
            if (trouble := each.trouble) != self._troubles.get(each.name, ""):
                self._troubles[each.name] = trouble
                message = f"the source {each.name}: {trouble or 'reads again'}"
                found.append(own_word(now.wall, "source", message, source=each.name, trouble=trouble))
        return found

    def settle(self) -> None:
        """Tell sources what of theirs is on the disk."""
        settled = self._exporter.settled
        if settled is self._settled:
            return
        for each in self._sources:
            position = settled.get(each.name, "")
            if position != self._settled.get(each.name, ""):
                each.settled(position)
        self._settled = settled

    def status(self) -> dict[str, Any]:
        """By source: whether it waits for room, and what it could not do."""
        return {
            each.name: {"waits": each.name in self._held, "trouble": each.trouble} for each in self._sources
        }
