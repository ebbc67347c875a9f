"""Downloads over connections and servers that fail in every way: the right bytes, or a named error."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event
from typing import TYPE_CHECKING

import pytest

from appliance.definition.lock import Artefact
from appliance.errors import DigestMismatch, SourceUnreachable
from appliance.progress import Silent
from appliance.sources import http_download
from appliance.sources.http_download import HttpDownloader, HttpRefused, fetch_resuming
from appliance.sources.stopping import Stopped

from .loopback import (
    Asked,
    Loopback,
    Reply,
    Silence,
    cut,
    header,
    interrupt,
    other_part,
    says_length,
    sends,
    serving,
    status,
    without_ranges,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedRandom

    from appliance.sources.station import Station

DATA = hashlib.shake_256(b"the file").digest(3_000_000)
OTHER = hashlib.shake_256(b"another").digest(3_000_000)
MIB = 1 << 20
PIECE = 1 << 16


@pytest.fixture
def web() -> Iterator[Loopback]:
    with serving(Loopback(files={"/big": DATA, "/small": DATA[:1000]})) as web:
        yield web


class Fetch:
    """Fetches one file into a station's store, or only into a file."""

    def __init__(self, station: Station, web: Loopback) -> None:
        self.station, self.web = station, web
        self.http = HttpDownloader(station, "the example source")

    def locked(self, path: str = "/big", data: bytes = DATA) -> bytes:
        """As a locked artefact; returns what the store has then."""
        sha256 = hashlib.sha256(data).hexdigest()
        artefact = Artefact(
            path="big.bin",
            name="big",
            version="1",
            size=len(data),
            sha256=sha256,
            licence="CC0-1.0",
            origin={"kind": "file"},
        )

        def append(partial: BufferedRandom) -> None:
            self.http.append(self.web.address + path, partial, name="big.bin", size=len(data))

        fetch_resuming(self.station, artefact, append)
        return self.station.store.path(sha256).read_bytes()

    def unknown(self, path: str = "/big") -> bytes:
        """A file of which nothing is known; returns what came."""
        with self.station.store.scratch() as scratch, scratch.open("w+b") as file:
            self.http.append(self.web.address + path, file, name="big.bin")
            file.seek(0)
            return file.read()

    @property
    def kept(self) -> int:
        return self.station.store.fetched(hashlib.sha256(DATA).hexdigest())

    @property
    def pauses(self) -> list[float]:
        return self.station.stop.pauses  # type: ignore[attr-defined]  # conftest.Unhurried


@pytest.fixture
def fetch(station: Station, web: Loopback) -> Fetch:
    return Fetch(station, web)


# case: (faults, the Range headers that follow)
MENDED: dict[str, tuple[list[object], list[str | None]]] = {
    "nothing is wrong": ([], [None]),
    "the connection breaks at once": ([cut(0)], [None, None]),
    "the connection breaks in the middle": ([cut(MIB)], [None, f"bytes={MIB}-"]),
    "it breaks again and again": (
        [cut(MIB), cut(PIECE), cut(PIECE)],
        [None, f"bytes={MIB}-", f"bytes={MIB + PIECE}-", f"bytes={MIB + 2 * PIECE}-"],
    ),
    "it does not say how long the file is": ([says_length(None)], [None]),
    "busy at first": ([status(503), status(500), status(502)], [None] * 4),
    "too many requests": ([status(429, Retry_After="7")], [None, None]),
    "ranges are ignored": ([cut(MIB), without_ranges], [None, f"bytes={MIB}-"]),
    "another part than asked for": ([cut(MIB), other_part(5)], [None, f"bytes={MIB}-", None]),
    "a part without saying which": (
        [cut(MIB), header("Content-Range", "pages 1-2")],
        [None, f"bytes={MIB}-", None],
    ),
    "a part of an unknown whole": (
        [cut(MIB), header("Content-Range", f"bytes {MIB}-{len(DATA) - 1}/*")],
        [None, f"bytes={MIB}-"],
    ),
    "a part though all was asked for": ([other_part(5)], [None, None]),
    "the range is refused": ([cut(MIB), status(416)], [None, f"bytes={MIB}-", None]),
    "headers without end": ([header("X-Filler", "x" * 100_000)], [None, None]),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_goes_wrong_for_a_moment_is_mended_in_the_same_run(
    fetch: Fetch, web: Loopback, case: str
) -> None:
    faults, ranges = MENDED[case]
    web.faults["/big"].extend(faults)  # type: ignore[arg-type]  # a list of faults
    assert fetch.locked() == DATA
    assert web.ranges("/big") == ranges


def test_a_truncated_answer_without_a_length_is_completed(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].append(lambda _, reply, whole: Reply(200, reply.headers, whole[:MIB], length=None))
    assert fetch.locked() == DATA
    assert web.ranges("/big") == [None, f"bytes={MIB}-"]


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changes_between_two_connections_is_never_mixed(
    fetch: Fetch, web: Loopback, known: bool
) -> None:
    """The validator of the first answer goes along (If-Range); then the new file comes whole."""
    web.files["/big"] = OTHER
    web.faults["/big"].append(lambda _, __, ___: Reply(200, {"ETag": '"old"'}, DATA, cut=MIB))
    got = fetch.locked(data=OTHER) if known else fetch.unknown()
    assert got == OTHER
    assert [asked.headers.get("if-range") for asked in web.asked] == [None, '"old"']


def test_a_server_that_ignores_if_range_is_asked_for_the_whole(fetch: Fetch, web: Loopback) -> None:
    web.files["/big"] = OTHER
    web.faults["/big"].append(lambda _, __, ___: Reply(200, {"ETag": '"old"'}, DATA, cut=MIB))
    web.faults["/big"].append(other_part(MIB))
    assert fetch.unknown() == OTHER
    assert web.ranges("/big") == [None, f"bytes={MIB}-", None]


def test_a_weak_validator_proves_nothing_and_is_not_sent(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].append(lambda _, __, ___: Reply(200, {"ETag": 'W/"x"'}, DATA, cut=MIB))
    assert fetch.unknown() == DATA
    assert "if-range" not in web.asked[1].headers


def test_an_earlier_run_is_gone_on_with_and_what_is_whole_is_not_asked_for(
    fetch: Fetch, web: Loopback
) -> None:
    partial = fetch.station.store.folder / "partial" / hashlib.sha256(DATA).hexdigest()
    partial.write_bytes(DATA[:2_000_000])
    assert fetch.locked() == DATA
    assert web.ranges("/big") == ["bytes=2000000-"]
    fetch.station.store.path(partial.name).unlink()
    web.asked.clear()
    partial.write_bytes(DATA)
    assert fetch.locked() == DATA
    assert web.asked == []


def test_an_empty_file_needs_no_request(fetch: Fetch, web: Loopback) -> None:
    assert fetch.locked("/nothing", b"") == b""
    assert web.asked == []


def test_a_bad_beginning_of_an_earlier_run_is_thrown_away(fetch: Fetch, web: Loopback) -> None:
    partial = fetch.station.store.folder / "partial" / hashlib.sha256(DATA).hexdigest()
    partial.write_bytes(OTHER[:2_000_000])
    assert fetch.locked() == DATA
    assert web.ranges("/big") == ["bytes=2000000-", None]


def test_progress_adds_up_whatever_was_sent_twice(fetch: Fetch, web: Loopback) -> None:
    class Count(Silent):
        total = 0

        def advance(self, count: int) -> None:
            self.total += count

    counted = Count()
    object.__setattr__(fetch.station, "progress", counted)
    partial = fetch.station.store.folder / "partial" / hashlib.sha256(DATA).hexdigest()
    partial.write_bytes(OTHER[:2_000_000])
    web.faults["/big"].extend([cut(MIB), cut(MIB), without_ranges])
    assert fetch.locked() == DATA
    assert counted.total == len(DATA)


# --- other files --------------------------------------------------------------------------------

WRONG = {
    "another file of the same length": ([sends(OTHER)], "big.bin is not the file that was locked"),
    "a shorter file": ([sends(DATA[:-1])], "big.bin is not the file"),
    "a longer file": ([sends(DATA + b"!")], "big.bin is not the file"),
    "a longer file that does not say so": (
        [lambda _, __, ___: Reply(200, {}, DATA + b"!" * 100, length=None)],
        "big.bin is not the file",
    ),
    "an error page with a good status": ([sends(b"please log in")], "big.bin is not the file"),
    "the rest of a longer file": (
        [cut(MIB), header("Content-Range", f"bytes {MIB}-{len(DATA)}/{len(DATA) + 1}")],
        "big.bin is not the file",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_another_file_is_refused_and_the_right_one_taken_afterwards(
    fetch: Fetch, web: Loopback, case: str
) -> None:
    faults, message = WRONG[case]
    web.faults["/big"].extend(faults)  # type: ignore[arg-type]  # a list of faults
    with pytest.raises(DigestMismatch, match=message) as caught:
        fetch.locked()
    assert caught.value.exit_code == 4
    assert caught.value.found
    assert not fetch.station.store.holds(hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert fetch.locked() == DATA


def test_a_wrong_length_is_noticed_before_the_bytes_come(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].append(sends(DATA + DATA))
    with pytest.raises(DigestMismatch) as caught:
        fetch.locked()
    assert caught.value.found == "6000000 bytes"
    assert caught.value.wanted == "3,000,000 bytes"
    assert fetch.kept == 0


def test_an_error_page_with_a_good_status_costs_nothing_of_what_came(fetch: Fetch, web: Loopback) -> None:
    """A proxy that wants a login in the middle of a hundred gigabytes."""
    web.faults["/big"].extend([cut(MIB), sends(b"please log in")])
    with pytest.raises(DigestMismatch):
        fetch.locked()
    assert fetch.kept == MIB
    assert fetch.locked() == DATA
    assert web.ranges("/big")[-1] == f"bytes={MIB}-"


# --- no end of it -------------------------------------------------------------------------------

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


# --- refusals and redirects ---------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 451])
def test_a_refusal_is_told_at_once(fetch: Fetch, web: Loopback, code: int) -> None:
    web.faults["/big"].append(status(code, X_Error_Code="Gone"))
    with pytest.raises(HttpRefused) as caught:
        fetch.locked()
    assert caught.value.status == code
    assert caught.value.headers["X-Error-Code"] == "Gone"
    assert len(web.asked) == 1


def test_redirects_in_circles_end(fetch: Fetch, web: Loopback) -> None:
    web.faults["/big"].extend([status(302, Location="/big")] * 50)
    with pytest.raises(SourceUnreachable) as caught:
        fetch.locked()
    assert caught.value.found == "127.0.0.1: TooManyRedirects"
    assert len(web.asked) == 11


class Token:
    """Access by a token, which is renewed once."""

    def __init__(self) -> None:
        self.token, self.renewed = "secret-1", 0

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self, _: object) -> bool:
        self.renewed += 1
        self.token = f"secret-{self.renewed + 1}"
        return self.renewed == 1


def test_the_token_stays_with_the_server_it_is_for(fetch: Fetch, web: Loopback) -> None:
    """Storage behind a hub is another host; it gets the range, and nothing else."""
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    with serving(Loopback(files={"/blob": DATA})) as storage:
        web.faults["/big"].extend([status(302, Location=f"{storage.address}/blob")] * 2)
        storage.faults["/blob"].append(cut(MIB))
        assert fetch.locked() == DATA
        assert [asked.headers["authorization"] for asked in web.asked] == ["Bearer secret-1"] * 2
        assert ["authorization" in asked.headers for asked in storage.asked] == [False, False]
        assert storage.ranges("/blob") == [None, f"bytes={MIB}-"]


def test_a_token_that_ran_out_is_renewed_once(fetch: Fetch, web: Loopback) -> None:
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    web.faults["/big"].extend([cut(MIB), status(401)])
    assert fetch.locked() == DATA
    assert [asked.headers["authorization"] for asked in web.asked][-1] == "Bearer secret-2"
    web.faults["/small"].extend([status(401)])
    with pytest.raises(HttpRefused):
        fetch.unknown("/small")


def test_a_netrc_file_does_not_replace_the_token(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = fetch.station.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch.http = HttpDownloader(fetch.station, "the example source", access=Token())
    assert fetch.unknown("/small") == DATA[:1000]
    assert web.asked[0].headers["authorization"] == "Bearer secret-1"


def test_a_proxy_of_the_environment_is_used(
    fetch: Fetch, web: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Loopback(pages=lambda _: Reply(body=b"by proxy"))) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert fetch.unknown("/small") == b"by proxy"
    assert web.asked == []


def test_an_encoded_answer_is_refused_since_its_parts_could_not_be_joined(
    fetch: Fetch, web: Loopback
) -> None:
    web.faults["/big"].append(header("Content-Encoding", "gzip"))
    with pytest.raises(SourceUnreachable, match="does not answer") as caught:
        fetch.locked()
    assert "encoded" in caught.value.found
    assert web.asked[0].headers["accept-encoding"] == "identity"


def test_nobody_there(fetch: Fetch, web: Loopback) -> None:
    web.address = "http://somebody:secret@127.0.0.1:9"
    with pytest.raises(SourceUnreachable) as caught:
        fetch.locked()
    assert caught.value.found == "127.0.0.1: ConnectionError"
    assert "secret" not in str(caught.value.as_dict())
    assert fetch.pauses == [1.0, 2.0, 4.0, 8.0]


# --- small documents ----------------------------------------------------------------------------


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


# --- a server that falls silent -----------------------------------------------------------------


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
