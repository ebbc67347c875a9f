"""Another file than the one that is locked is refused, and never mixed with it."""

from __future__ import annotations

import hashlib

import pytest

from appliance.errors import DigestMismatch
from tests.unit.sources.http.fetching import DATA, MIB, OTHER, Fetch
from tests.unit.sources.loopback import Loopback, Reply, cut, header, sends

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
