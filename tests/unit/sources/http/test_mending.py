"""Connections that break and servers that stumble are mended in the same run, or gone on with."""

from __future__ import annotations

import hashlib

import pytest

from appliance.progress import Silent
from tests.unit.sources.http.fetching import DATA, MIB, OTHER, PIECE, Fetch
from tests.unit.sources.loopback import (
    Loopback,
    Reply,
    cut,
    header,
    other_part,
    says_length,
    status,
    without_ranges,
)

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
