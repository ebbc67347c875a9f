"""What is taken back stays taken back, and is read in one spelling only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BundleRevoked, RevocationInvalid
from appliance.trust.canonical import canonical_bytes
from appliance.trust.revocation import (
    MAX_ENTRIES,
    NOTHING,
    Revocation,
    extended,
    parse_revocation,
    revocation_bytes,
)

A, B, C = (letter * 64 for letter in "abc")
GOOD = Revocation(3, (A, B), (C,))


def test_a_revocation_is_read_back() -> None:
    assert parse_revocation(revocation_bytes(GOOD)) == GOOD


def test_the_next_one_holds_all_and_more() -> None:
    following = extended(GOOD, [C], [A])
    assert following == Revocation(4, (A, B, C), (A, C))
    assert following.includes(GOOD)
    assert not GOOD.includes(following)
    assert extended(NOTHING, [B, A, B], []) == Revocation(1, (A, B))


def test_a_bundle_that_was_taken_back() -> None:
    GOOD.require_bundle(A)
    with pytest.raises(BundleRevoked):
        GOOD.require_bundle(C)


WRONG: dict[str, dict[str, Any]] = {
    "another format": {"format": 2},
    "another type": {"type": "root"},
    "serial zero": {"serial": 0},
    "serial as text": {"serial": "3"},
    "keys out of order": {"keys": [B, A]},
    "a key twice": {"keys": [A, A]},
    "a key in capitals": {"keys": [A.upper()]},
    "a short key": {"keys": [A[:-1]]},
    "a number for a key": {"keys": [1]},
    "keys as text": {"keys": A},
    "bundles out of order": {"bundles": [C, B]},
    "nothing at all": {"keys": [], "bundles": []},
    "too many": {"keys": [f"{number:064x}" for number in range(MAX_ENTRIES + 1)]},
    "something that gives back": {"restored": [A]},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_one_thing_wrong(change: dict[str, Any]) -> None:
    values = json.loads(revocation_bytes(GOOD)) | change
    with pytest.raises(RevocationInvalid):
        parse_revocation(canonical_bytes(values))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RevocationInvalid):
        parse_revocation(data)
