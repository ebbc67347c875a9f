"""Metrics for a sender in a namespace: handed to its socket, and nobody waits if it takes nothing."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from appliance.export.handing import Handing
from appliance.export.sources.local import DatagramSource
from appliance.export.sources.source import Taken
from tests.unit.export.nodes import NOW
from tests.unit.export.test_intake import Well

if TYPE_CHECKING:
    from pathlib import Path


def snapshots(count: int, size: int = 10) -> list[list[Taken]]:
    return [[Taken(b'{"n":%d,"x":"%s"}' % (number, b"x" * size))] for number in range(count)]


def test_snapshots_come_out_of_the_senders_socket(tmp_path: Path) -> None:
    there = DatagramSource(tmp_path / "socket")
    handing = Handing(Well("metrics", patient=False, handfuls=snapshots(3)), tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        for _ in range(3):
            handing.hand_over(out)
    assert [json.loads(each.record)["n"] for each in there.read()] == [0, 1, 2]
    assert (handing.given, handing.missed) == (3, 0)
    there.close()


def test_what_was_not_taken_is_said_with_the_next_that_is(tmp_path: Path) -> None:
    """There is no sender, then one that does not read, then one that does."""
    place = tmp_path / "socket"
    handing = Handing(
        Well("metrics", patient=False, handfuls=snapshots(60, 60_000)), place, now=lambda: NOW
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        handing.hand_over(out)
        there = DatagramSource(place)
        for _ in range(58):
            handing.hand_over(out)
        found = [json.loads(each.record) for each in there.read()]
        assert found[0] == {"stream": "scraper", "time": NOW, "fields": {"not_taken": 1}}
        assert 0 < handing.given < 58
        missed = handing.missed - 1
        handing.hand_over(out)
        word, last = (json.loads(each.record) for each in there.read())
    assert word["fields"] == {"not_taken": missed}
    assert last["n"] == 59
    there.close()
