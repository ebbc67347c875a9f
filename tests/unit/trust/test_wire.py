"""The SSH wire encoding has one spelling for each value."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.trust.wire import WireError, WireReader, mpint, string


@given(st.integers(1, 2**400))
def test_positive_numbers_are_read_back(number: int) -> None:
    reader = WireReader(string(mpint(number)))
    assert reader.positive() == number
    reader.end()


@pytest.mark.parametrize("value", [b"", b"\0", b"\0\0", b"\0\1", b"\x80", b"\xff\xff"])
def test_zero_negative_and_padded_numbers_are_refused(value: bytes) -> None:
    with pytest.raises(WireError):
        WireReader(string(value)).positive()


@pytest.mark.parametrize("value", [b"\n", b"a\0", b"\x1b", b"\x7f", "é".encode()])
def test_names_are_printable_ascii(value: bytes) -> None:
    with pytest.raises(WireError):
        WireReader(string(value)).text()


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0", b"\0\0\0\2a", b"\xff\xff\xff\xff", b"\0\1\0\0" + bytes(65536)]
)
def test_strings_end_where_they_say(data: bytes) -> None:
    with pytest.raises(WireError):
        WireReader(data).string()


def test_every_byte_is_taken() -> None:
    reader = WireReader(string(b"a") + b"b")
    assert reader.string() == b"a"
    with pytest.raises(WireError):
        reader.end()
