"""By policy a full spool ends the sender: what cannot wait is in a signed word, and a start sends first."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.errors import SpoolFull
from appliance.export.block import BlockKind, parse_block
from appliance.export.exporter import Exporter
from appliance.export.line.watched import Watched
from appliance.export.loops import SendLoop
from appliance.export.moments import moment
from appliance.export.pacing import TokenBucket
from appliance.export.places import SPOOL, found_sender, read_identity
from appliance.export.segments import FrameKind, Segments
from appliance.export.sending import Sending
from appliance.export.sockets import receiving_socket, sending_socket
from appliance.export.sources.local import DatagramSource
from appliance.export.spool import MIN_LIMIT, Spool
from tests.unit.export.nodes import chance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from appliance.export.sources.source import Source

RECORD = chance("record").randbytes(60_000)


def full(folder: Path) -> int:
    """A sender's folder whose spool is full of what was never sent; says how many records it has."""
    found_sender(folder, "gpu-01")
    identity = read_identity(folder)
    spool = Spool(str(folder / SPOOL), identity.sender, limit=MIN_LIMIT)
    exporter = Exporter(identity, spool, moment())
    while exporter.take(RECORD, moment()):
        pass
    exporter.sync(moment())
    spool.close()
    return spool.state.head.sequence - 1


def lived(
    folder: Path,
    sources: Sequence[Source],
    watched: Watched | None,
    until: Callable[[Exporter], bool],
    rate: float = 1.0,
) -> Exporter:
    """One start of the sender by that policy, until it is as wanted, or ends."""
    identity, stop = read_identity(folder), threading.Event()
    spool = Spool(str(folder / SPOOL), identity.sender, limit=MIN_LIMIT)
    exporter = Exporter(identity, spool, moment(), stop_when_full=True)

    def tell(_: object) -> None:
        if until(exporter):
            stop.set()

    try:
        with receiving_socket(("127.0.0.1", 0)) as there, sending_socket(there.getsockname()) as line:
            sending = Sending(identity, exporter, TokenBucket(rate, rate))
            loop = SendLoop(exporter, sending, line, there.getsockname(), sources, tell)
            loop.watched = watched
            loop.run(stop)
    finally:
        spool.close()
    return exporter


def sequences(folder: Path) -> list[int]:
    """Every one that the spool accounts for, as a record or in a statement of drops."""
    log = Segments(str(folder / SPOOL))
    headers = [parse_block(each.data).header for each in log.frames() if each.kind == FrameKind.BLOCK]
    log.close()
    told = [each for each in headers if each.kind is not BlockKind.OPENING]
    return [number for each in told for number in range(each.first, each.last + 1)]


def test_what_it_says_of_its_walls_does_not_end_a_start_in_a_full_spool(tmp_path: Path) -> None:
    """Frames that came in once are told by every start: none would ever send again."""
    full(tmp_path / "sender")
    seen = json.dumps({"time": moment().wall, "digests": {}, "received": 9, "faults": []}).encode()
    rounds = iter(range(3))
    lived(tmp_path / "sender", [], Watched(lambda: seen), lambda _: next(rounds, None) is None)


def test_what_cannot_wait_in_a_full_spool_is_in_a_signed_word_before_the_end(tmp_path: Path) -> None:
    kept = full(tmp_path / "sender")
    source = DatagramSource(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as giver:
        giver.connect(str(tmp_path / "s"))
        for number in range(5):
            giver.send(b"%d" % number)
    rounds = iter(range(3))
    with pytest.raises(SpoolFull):
        lived(
            tmp_path / "sender",
            [source],
            None,
            lambda _: next(rounds, None) is None and pytest.fail("it goes on"),
        )
    source.close()
    assert sequences(tmp_path / "sender") == list(range(1, kept + 6))
