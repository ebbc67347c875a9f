"""One value, one spelling: whatever else a parser might forgive is refused."""

from __future__ import annotations

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.trust.canonical import LARGEST_INTEGER, NotCanonicalError, canonical_bytes, parse_canonical

LIMIT = 1 << 20

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST_INTEGER, LARGEST_INTEGER)
    | st.text(st.characters(codec="utf-8"))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_canonical(canonical_bytes(value), limit=LIMIT) == value


@given(VALUES | st.floats(allow_nan=False, allow_infinity=False))
@example({"\U00010000": 1, "\uffff": 2})
@example([1.5, "1.5"])
@example(['\x00\x1f\x7f\u2028"\\/'])
@example({"9007199254740992": [LARGEST_INTEGER, -LARGEST_INTEGER]})
def test_the_spelling_is_that_of_the_library_which_knows_every_rule(value: object) -> None:
    """Whichever of the two writes it."""
    assert canonical_bytes(value) == rfc8785.dumps(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_in_one_spelling_or_refused(data: bytes) -> None:
    try:
        value = parse_canonical(data, limit=LIMIT)
    except NotCanonicalError:
        return
    assert canonical_bytes(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" {}",
        b"{}\n",
        b"{} ",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b'{"a" :1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 100_000 + b"}",
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1}//',
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"' + b"a" * LIMIT + b'"',
        '{"a":1}'.encode("utf-16"),
    ],
    ids=lambda data: ascii(data[:16]),
)
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(NotCanonicalError):
        parse_canonical(data, limit=LIMIT)


@pytest.mark.parametrize("value", [2**53, "\ud800", float("nan")])
def test_values_without_a_spelling_are_refused(value: object) -> None:
    with pytest.raises(NotCanonicalError):
        canonical_bytes({"a": value})
