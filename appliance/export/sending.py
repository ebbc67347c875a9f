"""Which datagram leaves next: checkpoints, new blocks, later passes, and old ones when the line is idle.

Time is given, blocks come from the spool, and nothing is sent here.  What is due in one pass at once leaves
interleaved, four blocks at a time, so that a burst of losses hits each of them a little.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from appliance.export.packet import ALIGNMENT, EVEN_DATAGRAM, PacketKind, evened, filling
from appliance.export.symbols import DEFAULT_PERCENT, code

if TYPE_CHECKING:
    from appliance.export.exporter import Exporter, Moment
    from appliance.export.identity import Identity
    from appliance.export.pacing import TokenBucket
    from appliance.export.segments import Place
    from appliance.export.spool import Stored

INTERLEAVED: Final = 4
#: Seconds between the copies of a checkpoint, so that one blackout does not take all.
_SPREAD: Final = 0.7
_DAY: Final = 86_400_000
#: What Linux takes in one call since 4.18: so many segments, and as many bytes as one datagram of IPv4.
_SEGMENTS: Final = 64
_CALL_BYTES: Final = 65_507
#: As long as those of a block with the most symbols are at least.
_NEARLY_EVEN: Final = EVEN_DATAGRAM - 2 * ALIGNMENT
_IDLE: Final = -1


class Sending:
    """What one node sends.

    Args:
        identity: who.
        exporter: what makes the blocks, with their spool.
        line: how fast anything may leave.
        idle: how fast old blocks may, when nothing else is to be sent; None: never.
        percent: repair symbols for a hundred source symbols.
        constant: fill the line up, with datagrams that are all of one length.
    """

    def __init__(
        self,
        identity: Identity,
        exporter: Exporter,
        line: TokenBucket,
        *,
        idle: TokenBucket | None = None,
        percent: int = DEFAULT_PERCENT,
        constant: bool = False,
    ) -> None:
        self._identity, self._exporter = identity, exporter
        self._line, self._idle, self._percent = line, idle, percent
        self._new: deque[bytes] = deque()
        self._old: deque[bytes] = deque()
        self._copies: deque[tuple[float, bytes]] = deque()
        self._near: dict[int, tuple[int, Place]] = {}
        self._replayed = 0
        self._constant = constant
        self.filling = 0
        self.packets = 0
        self.bytes = 0

    def announce(self, number: int, data: bytes, now: Moment) -> None:
        """Send a checkpoint, in copies over some seconds."""
        found = code(
            PacketKind.CHECKPOINT,
            self._identity.node,
            self._exporter.epoch,
            number,
            data,
            tag_key=self._identity.tag_key,
            percent=self._percent,
        )
        self._copies.extend((now.steady + place * _SPREAD, each) for place, each in enumerate(found))

    def burst(self, now: Moment) -> list[bytes]:
        """The datagrams to send now, all of one length, for one call of the system; often none."""
        if self._constant:
            return self._counted(self._even_burst(now))
        copies = self._copies
        queue = self._new if self._new and not (copies and copies[0][0] <= now.steady) else self._queue(now)
        if not queue:
            return []
        size = len(queue[0])
        most = min(self._line.fits(size, now.steady), at_once(size))
        found: list[bytes] = []
        while len(found) < most and queue and len(queue[0]) == size:
            found.append(queue.popleft())
        if found:
            self._line.take(size * len(found), now.steady)
        return self._counted(found)

    def _even_burst(self, now: Moment) -> list[bytes]:
        """The next of a line that is always used alike: there are some whenever some may leave."""
        most = min(self._line.fits(EVEN_DATAGRAM, now.steady), at_once(EVEN_DATAGRAM))
        found = [self._even(now) for _ in range(most)]
        if found:
            self._line.take(EVEN_DATAGRAM * most, now.steady)
        return found

    def _even(self, now: Moment) -> bytes:
        if queue := self._queue(now):
            return evened(queue.popleft())
        self.filling += 1
        return filling(self._identity.node, self._exporter.epoch, self.filling, self._identity.tag_key)

    def _counted(self, found: list[bytes]) -> list[bytes]:
        self.packets += len(found)
        self.bytes += sum(map(len, found))
        return found

    def _queue(self, now: Moment) -> deque[bytes] | None:
        """What goes on now.  New blocks overtake old ones, which go on where they were."""
        if self._copies and self._copies[0][0] <= now.steady:
            self._new.appendleft(self._copies.popleft()[1])
        if not self._new and self._exporter.passes.fresh:
            self._new = self._pass(0, now)
        if self._new:
            return self._new
        if not self._old:
            due = self._exporter.passes.due(now.steady)
            self._old = self._replay(now) if due is None else self._pass(due, now)
        return self._old or None

    def _pass(self, number: int, now: Moment) -> deque[bytes]:
        passes = self._exporter.passes
        found: list[list[bytes]] = []
        while len(found) < INTERLEAVED and passes.due(now.steady) == number:
            stored = self._read(number, passes.next[number])
            if stored is None:  # the disk has lost it: a gap, and no reason to stop
                passes.sent(number, passes.end)
                break
            passes.sent(number, stored.header.block + 1)
            found.append(self._coded(stored))
        return interleaved(found)

    def _replay(self, now: Moment) -> deque[bytes]:
        """An old block, round and round through the last day."""
        if self._idle is None or self._idle.wait(now.steady):
            return deque()
        spool, end = self._exporter.spool, self._exporter.passes.next[-1]
        first = spool.since(now.wall - _DAY)
        if not first <= self._replayed < end:
            self._replayed = first
        stored = self._read(_IDLE, self._replayed) if first < end else None
        if stored is None or stored.header.block >= end:
            self._replayed = end
            return deque()
        self._replayed = stored.header.block + 1
        found = deque(self._coded(stored))
        self._idle.take(sum(map(len, found)), now.steady)
        return found

    def _read(self, number: int, block: int) -> Stored | None:
        known, near = self._near.get(number, (None, None))
        stored = self._exporter.spool.read(block, near if known == block else None)
        if stored is not None:
            self._near[number] = (stored.header.block + 1, stored.end)
        return stored

    def _coded(self, stored: Stored) -> list[bytes]:
        found = code(
            PacketKind.BLOCK,
            self._identity.node,
            stored.header.epoch,
            stored.header.block,
            stored.data,
            tag_key=self._identity.tag_key,
            percent=self._percent,
        )
        # Those of full blocks differ by a few bytes; of one length, blocks leave in one call.
        return list(map(evened, found)) if len(found[0]) >= _NEARLY_EVEN else found

    @property
    def all_sent(self) -> bool:
        """Whether everything was sent once, and nothing of it waits here."""
        return not self._new and not self._exporter.passes.fresh

    def last_words(self) -> list[bytes]:
        """The copies of checkpoints that were not sent yet: who ends sends them now."""
        found = [evened(each) if self._constant else each for _, each in self._copies]
        self._copies.clear()
        self.packets += len(found)
        self.bytes += sum(map(len, found))
        return found

    def wait(self, now: Moment) -> float:
        """Seconds until something may leave, unless something is made before: at most one."""
        if (slow := self._line.wait(now.steady)) > 0:
            return min(slow, 1.0)
        if self._constant:
            return 0.0
        times = [1.0]
        if self._new or self._old or self._exporter.passes.due(now.steady) is not None:
            return 0.0
        if self._copies:
            times.append(max(0.0, self._copies[0][0] - now.steady))
        if (later := self._exporter.passes.wait(now.steady)) is not None:
            times.append(later)
        if self._idle is not None and self._exporter.passes.next[-1] > self._exporter.spool.oldest:
            times.append(self._idle.wait(now.steady))
        return min(times)


def at_once(size: int) -> int:
    """How many datagrams of so many bytes a system takes in one call (udp(7), UDP_SEGMENT)."""
    return min(_SEGMENTS, _CALL_BYTES // size)


def interleaved(lists: list[list[bytes]]) -> deque[bytes]:
    """The first of each list, then the second of each, and so on."""
    found: deque[bytes] = deque()
    for place in range(max(map(len, lists), default=0)):
        found.extend(each[place] for each in lists if place < len(each))
    return found
