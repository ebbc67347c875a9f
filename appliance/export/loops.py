"""The two loops that wait for clocks, sockets and sources, and do what the cores decide."""

from __future__ import annotations

import contextlib
import selectors
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from appliance.export.incoming import Incoming
from appliance.export.intake import Intake
from appliance.export.moments import STATUS_EVERY, moment
from appliance.export.rates import Rates, days_left
from appliance.export.sockets import dropped_by, send

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping, Sequence

    from appliance.export.exporter import Exporter, Moment
    from appliance.export.line.watched import Watched
    from appliance.export.receiver import Receiver
    from appliance.export.sending import Sending
    from appliance.export.sockets import Address
    from appliance.export.sources.source import Source

CHECKPOINT_EVERY: Final = 10.0
_TELL_EVERY: Final = 1.0
_WAIT: Final = 0.1  # seconds for a datagram, until somebody looks at the clock again
#: Seconds in which what comes for a sink is gathered, since each piece waits for disks or a server.
_FEED_EVERY: Final = 0.05
_AT_ONCE: Final = 512
#: Seconds after a stop in which sinks are offered what they do not have: a backlog is not waited for.
_LAST: Final = 10.0
_LATER: Final = 0.2  # seconds after a datagram that the system did not take


@dataclass
class SendLoop:
    """Reads sources, makes blocks and checkpoints, and sends what is due.

    Args:
        exporter: makes blocks.
        sending: says what leaves.
        line: the socket.
        peer: where to.
        sources: from where.
        tell: is given the status now and then.
        digests: for checkpoints.
        select: what of a record may leave.
        drain: end once all sources have ended and everything was sent once.
        watched: the walls around the card that this leaves by; None: nobody watches any.
    """

    exporter: Exporter
    sending: Sending
    line: socket.socket
    peer: Address
    sources: Sequence[Source]
    tell: Callable[[Mapping[str, Any]], None]
    digests: Mapping[str, str] = field(default_factory=dict)
    drain: bool = False
    select: Callable[[bytes], bytes] | None = None
    watched: Watched | None = None
    faults: int = 0
    intake: Intake = field(init=False)
    _held: list[bytes] = field(default_factory=list)
    _words: deque[bytes] = field(default_factory=deque)
    _rates: Rates = field(default_factory=Rates)

    @property
    def records(self) -> int:
        """How many records came from the sources."""
        return self.intake.records

    @property
    def dropped(self) -> int:
        """How many of them were dropped since the start."""
        return self.intake.dropped

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; what was taken is on the disk then.

        Raises:
            SpoolFull: by policy; of what could not wait, the chain says that it was dropped.
        """
        self._run(stop)
        if self.exporter.full is not None:
            raise self.exporter.full

    def _run(self, stop: threading.Event) -> None:
        now = moment()
        checkpoint, status = now.steady, now.steady
        with Intake(self.sources, self.exporter, self.select) as self.intake:
            try:
                while not stop.is_set() and self.exporter.full is None:
                    if self.drain and self.intake.ended and self._all_left(now):
                        return
                    if now.steady >= status:
                        self._look(now)
                    if now.steady >= checkpoint:
                        checkpoint = now.steady + CHECKPOINT_EVERY
                        self._state(now)
                    if now.steady >= status:
                        status = now.steady + STATUS_EVERY
                        self.tell(self.status(now))
                    self.intake.read(self._send(now, min(checkpoint, status)))
                    now = moment()
                    if self.intake.ended:
                        self.exporter.seal(now)  # nobody will fill the block any more
                    self.exporter.tick(now)
                    self.intake.settle()
            finally:
                try:
                    self.intake.last()
                finally:
                    self._settle(moment())
                    self.intake.settle()

    def _send(self, now: Moment, until: float) -> float:
        """Send what may leave; says how long to wait then."""
        left = 0
        while left < _AT_ONCE:
            burst = self._held or self.sending.burst(now)
            if not burst:
                times = [self.sending.wait(now), max(0.0, until - now.steady)]
                if (due := self.exporter.due(now)) is not None:
                    times.append(due)
                return min(times)
            try:
                sent = send(self.line, burst, self.peer)
            except OSError:  # no room in the kernel, or the link is down: it leaves later
                sent = 0
            left += sent
            self._held = burst[sent:]
            if self._held:
                self.faults += 1
                return _LATER
            now = moment()
        return 0.0

    def _look(self, now: Moment) -> None:
        """What is told of walls and sources is the exporter's own word: no selection keeps it back."""
        self._words.extend([*(self.watched.look(now) if self.watched else ()), *self.intake.news(now)])
        while self._words and self.exporter.say(self._words[0], now):
            self._words.popleft()

    def _state(self, now: Moment, *, last: bool = False) -> None:
        digests = {**self.digests, **(self.watched.digests if self.watched else {})}
        if (made := self.exporter.checkpoint(digests, now, last=last)) is not None:
            self.sending.announce(*made, now)

    def _all_left(self, now: Moment) -> bool:
        return not self._held and self.exporter.due(now) is None and self.sending.all_sent

    def _settle(self, now: Moment) -> None:
        """What was taken goes to the disk, and a last checkpoint says how far it is: at once, no later."""
        self._state(now, last=True)
        self.line.settimeout(1.0)
        with contextlib.suppress(OSError):
            for each in self.sending.last_words():
                self.line.sendto(each, self.peer)
        self.tell(self.status(now))

    def status(self, now: Moment) -> dict[str, Any]:
        """What a person may want to know."""
        spool, passes = self.exporter.spool, self.exporter.passes
        state = spool.state
        counted = {
            "records": self.records,
            "packets": self.sending.packets,
            "bytes": self.sending.bytes,
            "spooled": spool.written,
        }
        rates = self._rates.over(counted, now.steady)
        return {
            "side": "sender",
            "time": now.wall,
            "epoch": self.exporter.epoch,
            "next_block": state.head.block,
            "next_sequence": self.exporter.next_sequence,
            "waiting_blocks": passes.end - passes.next[0],
            "passes": list(passes.next),
            "records": self.records,
            "sources": self.intake.status(),
            "dropped": state.dropped,
            "dropping": self.exporter.dropping,
            "packets": self.sending.packets,
            "bytes": self.sending.bytes,
            "filling": self.sending.filling,
            "send_faults": self.faults,
            "rates": rates,
            "spool": {
                "bytes": spool.size,
                "limit": spool.limit,
                "oldest": spool.oldest,
                "days_left": days_left(spool.room(passes.next[-1]), rates["spooled"]),
            },
            **({"line": self.watched.status} if self.watched else {}),
        }


@dataclass
class ReceiveLoop:
    """Takes what comes; threads of their own feed the sinks, so that a slow one delays nothing else.

    Args:
        receiver: what decides and keeps.
        line: the socket.
        tell: is given the status now and then.
        event: is given what a person should know.
    """

    receiver: Receiver
    line: socket.socket
    tell: Callable[[Mapping[str, Any]], None]
    event: Callable[[Mapping[str, Any]], None]
    packets: int = 0
    bytes: int = 0
    _rates: Rates = field(default_factory=Rates)

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; what was kept is offered to the sinks once more, for some seconds."""
        feeders = [threading.Thread(target=self._feed, args=(each, stop)) for each in self.receiver.sinks]
        for each in feeders:
            each.start()
        try:
            with selectors.DefaultSelector() as waiting:
                waiting.register(self.line, selectors.EVENT_READ)
                self._take(waiting, stop)
        finally:
            stop.set()
            for each in feeders:
                each.join()
            until = moment().steady + _LAST
            self.receiver.feed(enough=lambda: moment().steady > until)
            for _ in range(2):  # nothing more is taken: what is missing is a gap
                self._tell(moment())
            self._say(moment())

    def _take(self, waiting: selectors.BaseSelector, stop: threading.Event) -> None:
        tell = status = 0.0
        incoming = Incoming(self.line)
        while not stop.is_set():
            waiting.select(_WAIT)
            found = incoming.take(_AT_ONCE)
            self.packets += len(found)
            self.bytes += sum(map(len, found))
            self.receiver.take(found)
            now = moment()
            if now.steady >= tell:
                tell = now.steady + _TELL_EVERY
                self._tell(now)
            if now.steady >= status:
                status = now.steady + STATUS_EVERY
                self._say(now)

    def _tell(self, now: Moment) -> None:
        for each in self.receiver.tell(now.wall):
            self.event(each)

    def _feed(self, sink: str, stop: threading.Event) -> None:
        while not stop.is_set():
            went_on = self.receiver.feed(sink, stop.is_set)
            if not went_on or not self.receiver.has_backlog(sink):
                stop.wait(_FEED_EVERY)

    def _say(self, now: Moment) -> None:
        status = self.receiver.status()
        counted = {"packets": self.packets, "bytes": self.bytes}
        counted |= {f"records of {each['name']}": each["records"] for each in status["nodes"]}
        rates = self._rates.over(counted, now.steady)
        for each in status["nodes"]:
            each["records_rate"] = rates.pop(f"records of {each['name']}")
        self.tell(
            {
                "side": "receiver",
                "time": now.wall,
                "address": list(self.line.getsockname()[:2]),
                "packets": self.packets,
                "bytes": self.bytes,
                "rates": rates,
                "socket_drops": dropped_by(self.line),
            }
            | status
        )
