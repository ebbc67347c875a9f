"""A receiver: what arrives is believed or not, kept, told of, and given on.  The socket is somebody else's.

Under its folder each node has one of its own, by its name: ``archive/`` with the proof of everything, and
``events.jsonl``: what a person should know, in order.  Sinks keep their cursors there, too.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ApplianceError, InProgress, SpaceExhausted
from appliance.export.archive import Archive
from appliance.export.packet import PacketKind
from appliance.export.reception import Arrival, Reception
from appliance.export.segment_log import DEFAULT_SEGMENT
from appliance.export.segments import FrameKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from appliance.export.identity import Sender
    from appliance.export.segments import Frame
    from appliance.export.sinks.feed import Outlet

ARCHIVE: Final = "archive"
EVENTS: Final = "events.jsonl"
_BACKLOG: Final = 1 << 18
#: More bytes than an event has.
_LINE: Final = 4096


@dataclass
class _Desk:
    """What belongs to one node."""

    archive: Archive
    events: Path
    feeds: list[Outlet]
    troubles: dict[str, str] = field(default_factory=dict)
    removed: int = 0


class Receiver:
    """All nodes of one folder.

    Args:
        folder: an existing folder.
        senders: who may send.
        feeds: makes the feeds of one node, given its archive and folder.
        segment: bytes of a segment of the archives.
        limit: bytes of each archive, beyond which its oldest segments go; None: they stay.

    Raises:
        InProgress: another receiver has the folder.
        ExportLogDamaged: an archive or cursor is not what was written.
    """

    def __init__(
        self,
        folder: Path,
        senders: Sequence[Sender],
        feeds: Callable[[Archive, Path], list[Outlet]] = lambda *_: [],
        *,
        segment: int = DEFAULT_SEGMENT,
        limit: int | None = None,
    ) -> None:
        self.unkept = 0
        self._limit = limit
        self._desks: dict[bytes, _Desk] = {}
        self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for sender in senders:
                self._desks[sender.node] = _desk(folder / sender.name, sender, feeds, segment)
        except BaseException as fault:
            self.close()
            if isinstance(fault, BlockingIOError):
                raise InProgress(
                    f"another receiver has {folder}", hint="wait until it ends, or end it"
                ) from fault
            raise
        ledgers = {node: desk.archive.ledger for node, desk in self._desks.items()}
        self.reception = Reception(senders, ledgers)

    def close(self) -> None:
        for desk in self._desks.values():
            desk.archive.close()
            for feed in desk.feeds:
                feed.close()
        os.close(self._lock)

    def take(self, datagrams: Iterable[bytes]) -> int:
        """Take what came; says how many blocks and checkpoints were kept."""
        return self._kept(self.reception.take_all(datagrams))

    def take_medium(self, frames: Iterable[Frame]) -> int:
        """Take the blocks and checkpoints of a medium; says how many were missing and are kept now."""
        kinds = {FrameKind.BLOCK: PacketKind.BLOCK, FrameKind.CHECKPOINT: PacketKind.CHECKPOINT}
        return sum(
            self._kept([self.reception.take_whole(kinds[FrameKind(frame.kind)], frame.data)])
            for frame in frames
            if frame.kind in kinds
        )

    def _kept(self, arrivals: Iterable[Arrival | None]) -> int:
        """Keep what arrived; says how many of it."""
        waiting: dict[bytes, dict[object, Arrival]] = {}
        kept = 0
        for each in arrivals:
            if each is None:
                continue
            of_node = waiting.setdefault(each.sender.node, {})
            arrival: Arrival | None = each
            if _needs_the_ledger(each, of_node):
                kept += self._keep(of_node)
                arrival = self.reception.judged_again(each)
            if arrival is not None:
                of_node[_key(arrival)] = arrival
        return kept + sum(map(self._keep, waiting.values()))

    def _keep(self, waiting: dict[object, Arrival]) -> int:
        """Put these of one node on the disk, and then into the ledger; or give them back."""
        arrivals = list(waiting.values())
        waiting.clear()
        if not arrivals:
            return 0
        desk = self._desks[arrivals[0].sender.node]
        try:
            desk.archive.append(arrivals)
        except SpaceExhausted as full:
            for each in arrivals:
                self.reception.give_back(each)
            self.unkept += len(arrivals)
            desk.troubles[ARCHIVE] = full.message
            return 0
        desk.troubles.pop(ARCHIVE, None)
        for each in arrivals:
            self.reception.accept(each)
        if self._limit is not None:
            given = min((feed.place.segment for feed in desk.feeds), default=1 << 40)
            desk.removed += desk.archive.bound(self._limit, given)
        return len(arrivals)

    @property
    def sinks(self) -> list[str]:
        """The names of the sinks, each of which has a feed for every node."""
        return sorted({feed.cursor.name for desk in self._desks.values() for feed in desk.feeds})

    def feed(self, sink: str | None = None, enough: Callable[[], bool] = lambda: False) -> bool:
        """Give to a sink a piece of what is due of each node; to all, if none is named, whatever there is.

        What one does not take is offered again next time.  May be called beside everything else, by one
        thread for each sink.

        Args:
            sink: its name; None: all of them, as at the end, those that wait for nobody first.
            enough: asked before each piece whether to leave it at that.

        Returns:
            Whether a sink went on, so that there may be more for it.
        """
        desks = self._desks.values()
        due = [(at, desk, feed) for desk in desks for at, feed in enumerate(desk.feeds)]
        moved = True
        while moved:
            moved = False
            for _, desk, feed in sorted(due, key=lambda each: each[0]):
                if sink in (feed.cursor.name, None):
                    if enough():
                        return moved
                    moved = _offered(desk, feed, last=sink is None) or moved
            if sink is not None:
                break
        return moved

    def has_backlog(self, sink: str) -> bool:
        """Whether a sink is so far behind, of some node, that a piece for it is a large one."""
        found = [
            (desk.archive.synced, feed.place)
            for desk in self._desks.values()
            for feed in desk.feeds
            if feed.cursor.name == sink
        ]
        return any(
            end.segment > place.segment or end.offset - place.offset >= _BACKLOG for end, place in found
        )

    def tell(self, wall: int) -> list[dict[str, Any]]:
        """What a person should know since the last time, also written to each node's ``events.jsonl``.

        Args:
            wall: now, in ms since 1970.
        """
        found = []
        for desk in self._desks.values():
            archive = desk.archive
            gaps, alarms = archive.news()
            events: list[dict[str, Any]] = [
                {"event": f"gap-{each.what}", "blocks": [each.first, each.last]} for each in gaps
            ] + [{"event": name, "count": count} for name, count in alarms.items()]
            if not events:
                continue
            try:
                found += _written(
                    desk, [{"time": wall, "node": archive.sender.name} | each for each in events]
                )
                archive.told()
                desk.troubles.pop(EVENTS, None)
            except (OSError, SpaceExhausted) as fault:
                desk.troubles[EVENTS] = str(fault)
        return found

    def status(self) -> dict[str, Any]:
        """Everything as values for JSON."""
        reception = self.reception
        return {
            "refused": {str(why): count for why, count in sorted(reception.refused.items())},
            "incomplete": reception.incomplete,
            "given_up": reception.given_up,
            "unkept": self.unkept,
            "nodes": [self._node(node, desk) for node, desk in self._desks.items()],
        }

    def _node(self, node: bytes, desk: _Desk) -> dict[str, Any]:
        counts, ledger = self.reception.counts[node], desk.archive.ledger
        newest = ledger.newest
        values = {name: value for name, value in asdict(counts).items() if name != "refused"}
        return {
            "name": desk.archive.sender.name,
            "node": node.hex(),
            **values,
            "refused": {str(why): count for why, count in sorted(counts.refused.items())},
            "gaps": [
                {
                    "blocks": [gap.first, gap.last],
                    "sequences": [gap.first_sequence, gap.last_sequence],
                    "state": gap.state,
                }
                for gap in ledger.gaps()
            ],
            "dropped": ledger.dropped,
            "forks": ledger.forked,
            "breaks": ledger.breaks,
            "contradictions": ledger.contradictions,
            "walls_changed": ledger.walls_changed,
            "highest_block": ledger.runs[-1].last if ledger.runs else None,
            "checkpoint": None
            if newest is None
            else {"epoch": newest.epoch, "number": newest.number, "time": newest.time}
            | {"next_block": newest.next_block, "next_sequence": newest.next_sequence}
            | {"digests": dict(newest.digests)},
            "archive_bytes": desk.archive.size,
            "archive_removed": desk.removed,
            "behind": {feed.cursor.name: desk.archive.behind(feed.place) for feed in desk.feeds},
            "troubles": dict(desk.troubles),
        }


def _desk(
    folder: Path, sender: Sender, feeds: Callable[[Archive, Path], list[Outlet]], segment: int
) -> _Desk:
    (folder / ARCHIVE).mkdir(parents=True, exist_ok=True)
    archive = Archive(str(folder / ARCHIVE), sender, segment=segment)
    try:
        return _Desk(archive, folder / EVENTS, feeds(archive, folder))
    except BaseException:
        archive.close()
        raise


def _offered(desk: _Desk, feed: Outlet, *, last: bool) -> bool:
    """Give a piece to a sink, or note its trouble; says whether it went on."""
    before, name = feed.place, feed.cursor.name
    try:
        if last:
            feed.finish()
        else:
            feed.run()
        desk.troubles.pop(name, None)
    except (OSError, ApplianceError) as fault:
        desk.troubles[name] = str(fault)
    except Exception as fault:  # noqa: BLE001 - else its thread ends, and nobody knows that it takes nothing
        desk.troubles[name] = f"{type(fault).__name__}: {fault}"
    return feed.place != before


def _needs_the_ledger(arrival: Arrival, waiting: Mapping[object, Arrival]) -> bool:
    """Whether it may be something else once these are in the ledger.

    Two of one number are, and blocks of two epochs, of which one may be another history.
    """
    if _key(arrival) in waiting:
        return True
    epochs = (each.coded.epoch for each in waiting.values() if each.block)
    return arrival.block is not None and next(epochs, arrival.coded.epoch) != arrival.coded.epoch


def _key(arrival: Arrival) -> object:
    return arrival.block.header.block if arrival.block else "checkpoint"


def _written(desk: _Desk, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All of these at the end of the file, each a whole line; or none of them."""
    view = memoryview("".join(json.dumps(each, sort_keys=True) + "\n" for each in events).encode("ascii"))
    with desk.events.open("ab+", buffering=0) as file:
        whole = _whole(file)
        file.truncate(whole)
        try:
            while view:
                view = view[file.write(view) :]
            os.fdatasync(file.fileno())
        except BaseException:
            file.truncate(whole)  # they are told again
            raise
    return events


def _whole(file: FileIO) -> int:
    """Bytes up to the end of its last whole line: what a cut tore was not told, and comes again."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _LINE))
    tail = file.read(_LINE)
    return size - len(tail) + tail.rfind(b"\n") + 1
