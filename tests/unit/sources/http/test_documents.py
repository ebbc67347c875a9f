"""Small documents, and servers that fall silent."""

from __future__ import annotations

import socket
import threading
import time
from dataclasses import replace
from threading import Event

import pytest

from appliance.errors import SourceUnreachable
from appliance.sources import http_download
from appliance.sources.stopping import Stopped
from tests.unit.sources.http.fetching import DATA, MIB, PIECE, Fetch
from tests.unit.sources.loopback import (
    Asked,
    Loopback,
    Reply,
    Silence,
    cut,
    header,
    interrupt,
    status,
)


def test_a_document_is_read_with_its_type(fetch: Fetch, web: Loopback) -> None:
    web.faults["/small"].extend([status(503), cut(10), header("Content-Type", "Text/Plain; charset=x")])
    document = fetch.http.read(web.address + "/small", limit=1000, accept="text/plain")
    assert (document.data, document.media_type) == (DATA[:1000], "text/plain")
    assert web.asked[0].headers["accept"] == "text/plain"


def test_of_a_document_too_long_no_more_is_read_than_shows_it(fetch: Fetch, web: Loopback) -> None:
    document = fetch.http.read(web.address + "/big", limit=999)
    assert 999 < len(document.data) <= PIECE


def test_tries_for_a_document_are_bounded(fetch: Fetch, web: Loopback) -> None:
    web.faults["/small"].extend([cut(10)] * 50)
    with pytest.raises(SourceUnreachable):
        fetch.http.read(web.address + "/small", limit=1000)
    assert len(web.asked) == 5


@pytest.mark.parametrize("known", [True, False], ids=["length known", "length unknown"])
def test_a_server_that_falls_silent_keeps_nobody_waiting(
    known: bool, fetch: Fetch, web: Loopback, silence: Silence
) -> None:
    """What came stays; and the end of an answer without a length is not taken for the file's."""
    length = -1 if known else None
    web.faults["/big"].append(lambda _, reply, __: replace(reply, cut=MIB, length=length, then=silence))
    interrupting = interrupt(fetch.station, silence.begun, lambda: not known or fetch.kept > 0)
    with pytest.raises(Stopped):
        fetch.locked() if known else fetch.unknown()
    assert not silence.over.is_set()
    interrupting.join()
    assert not known or fetch.kept > 0


def test_a_server_that_never_begins_to_answer_keeps_nobody_waiting(
    fetch: Fetch, web: Loopback, silence: Silence
) -> None:
    def mute(_: Asked, reply: Reply, __: bytes) -> Reply:
        silence()
        return reply

    web.faults["/small"].append(mute)
    interrupting = interrupt(fetch.station, silence.begun)
    with pytest.raises(Stopped):
        fetch.http.read(web.address + "/small", limit=1000)
    assert not silence.over.is_set()
    interrupting.join()


def test_a_server_that_never_greets_keeps_nobody_waiting(fetch: Fetch) -> None:
    """It accepts the connection, and says nothing of TLS; to connect may take 15 seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        accepted, over = Event(), Event()

        def accept() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1)  # the client's greeting
                accepted.set()
                over.wait(30)

        accepting = threading.Thread(target=accept)
        accepting.start()
        interrupting = interrupt(fetch.station, accepted)
        start = time.monotonic()
        with pytest.raises(Stopped):
            fetch.http.read(f"https://127.0.0.1:{server.getsockname()[1]}/x", limit=1000)
        assert time.monotonic() - start < http_download._TIMEOUT[0], "it was not waited for"
        over.set()
        interrupting.join()
        accepting.join()
