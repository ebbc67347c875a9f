"""Tries, pauses and memory of a download are bounded."""

from __future__ import annotations

import hashlib
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event
from typing import TYPE_CHECKING

import pytest

from appliance.errors import SourceUnreachable
from appliance.sources import http_download
from appliance.sources.stopping import Stopped
from tests.unit.sources.loopback import Asked, Loopback, Reply, cut, other_part, status

if TYPE_CHECKING:
    from collections.abc import Callable

from tests.unit.sources.http.fetching import DATA, MIB, PIECE, Fetch

ENDLESS: dict[str, Callable[..., Reply]] = {
    "it always breaks at once": cut(0),
    "it is always busy": status(503),
    "it always sends another part": other_part(5),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_tries_are_bounded(fetch: Fetch, web: Loopback, case: str) -> None:
    web.faults["/big"].extend([cut(2 * PIECE), *[ENDLESS[case]] * 50])
    with pytest.raises(SourceUnreachable, match="the example source does not answer") as caught:
        fetch.locked()
    assert caught.value.exit_code == 6
    assert len(web.asked) <= 8
    assert fetch.pauses == sorted(fetch.pauses)
    assert sum(fetch.pauses) <= 30


def test_a_server_that_goes_in_circles_is_given_up(fetch: Fetch, web: Loopback) -> None:
    """Each try brings 2 MiB, but always the same: that is no progress."""
    web.faults["/big"].extend([lambda _, __, whole: Reply(200, {}, whole, cut=2 * MIB)] * 50)
    with pytest.raises(SourceUnreachable):
        fetch.locked()
    assert len(web.asked) <= 8


def test_what_came_is_kept_when_it_is_given_up(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].extend([cut(MIB), *[status(503)] * 50])
    with pytest.raises(SourceUnreachable):
        fetch.locked()
    assert fetch.kept == MIB
    web.faults.clear()
    web.asked.clear()
    assert fetch.locked() == DATA
    assert web.ranges("/big") == [f"bytes={MIB}-"]


def test_what_an_earlier_run_left_is_no_progress_of_this_one(fetch: Fetch, web: Loopback) -> None:
    partial = fetch.station.store.folder / "partial" / hashlib.sha256(DATA).hexdigest()
    partial.write_bytes(DATA[: 2 * MIB])
    web.faults["/big"].extend([status(503)] * 50)
    with pytest.raises(SourceUnreachable):
        fetch.locked()
    assert len(web.asked) == 5


def test_a_pause_the_server_asks_for_is_made(fetch: Fetch, web: Loopback) -> None:
    web.faults["/small"].append(status(429, Retry_After="7"))
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    web.faults["/small"].append(status(503, Retry_After=when))
    web.faults["/small"].append(status(503, Retry_After="soon"))
    assert fetch.unknown("/small") == DATA[:1000]
    first, second, third = fetch.pauses
    assert (first, third) == (7.0, 4.0)
    assert 60 < second <= 90


def test_a_pause_too_long_ends_it(fetch: Fetch, web: Loopback) -> None:
    web.faults["/small"].append(status(429, Retry_After="3600"))
    with pytest.raises(SourceUnreachable) as caught:
        fetch.unknown("/small")
    assert caught.value.found == "127.0.0.1: HTTP status 429"
    assert fetch.pauses == []


@pytest.mark.parametrize(("pause", "waited"), [("120", [120.0]), ("121", [])])
def test_two_minutes_are_waited_and_no_second_more(
    fetch: Fetch, web: Loopback, pause: str, waited: list[float]
) -> None:
    web.faults["/small"].append(status(429, Retry_After=pause))
    if waited:
        assert fetch.unknown("/small") == DATA[:1000]
    else:
        with pytest.raises(SourceUnreachable):
            fetch.unknown("/small")
    assert fetch.pauses == waited


def test_a_download_of_any_length_takes_the_memory_of_a_piece(fetch: Fetch, web: Loopback) -> None:
    """Weights are larger than any memory; the server's own copy is there before anything is counted."""
    web.files["/long"] = bytes(32 * MIB)
    with fetch.station.store.scratch() as scratch, scratch.open("w+b") as file:
        tracemalloc.start()
        try:
            fetch.http.append(f"{web.address}/long", file, name="long", size=32 * MIB)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert file.tell() == 32 * MIB
    assert most < 4 * MIB


def test_a_break_after_much_came_costs_no_pause(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].extend([cut(MIB + PIECE), cut(MIB + PIECE)])
    assert fetch.locked() == DATA
    assert fetch.pauses == [0.0, 0.0]


def test_when_the_work_is_given_up_the_pause_ends(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].append(status(503))
    fetch.station.stop.set()
    with pytest.raises(Stopped):
        fetch.locked()


def test_when_the_work_is_given_up_the_transfer_ends(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = fetch.station.stop
    monkeypatch.setattr(fetch.station.progress, "advance", lambda count: count and stop.set())
    web.faults["/big"].append(lambda _, __, whole: Reply(200, {}, whole, cut=MIB))
    with pytest.raises(Stopped):
        fetch.locked()
    assert PIECE <= fetch.kept < MIB


def test_when_the_work_is_given_up_nobody_is_asked(fetch: Fetch, web: Loopback) -> None:
    fetch.station.stop.set()
    with pytest.raises(Stopped):
        fetch.locked()
    assert web.asked == []


def test_a_server_that_falls_silent_is_left_and_asked_again(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "_TIMEOUT", (5, 0.2))  # seconds; 60 between two pieces in earnest
    asked_again = Event()

    def silent(_: Asked, reply: Reply, __: bytes) -> Reply:
        return replace(reply, cut=MIB, then=lambda: asked_again.wait(30))

    def answer(_: Asked, reply: Reply, __: bytes) -> Reply:
        asked_again.set()
        return reply

    web.faults["/big"].extend([silent, answer])
    assert fetch.locked() == DATA
    assert web.ranges("/big") == [None, f"bytes={MIB}-"]
