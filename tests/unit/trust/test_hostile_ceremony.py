"""Whatever somebody hands in as a transcript, a document or typed lines: a named error, and no other."""

from __future__ import annotations

import json
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BundleUntrusted, TranscriptInvalid, TranscriptionFailed
from appliance.trust.canonical import NotCanonicalError, canonical_bytes
from appliance.trust.kinds import document_bytes, parse_document
from appliance.trust.spoken import read_spoken
from appliance.trust.transcript import Entry, line_bytes, read_transcript

LINE = line_bytes(Entry(1, "0" * 64, "init", (("a", "1" * 64),)), None)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["entry", "signature", "format", "type", "number", "before", "command", "in", "out", "x"]
)


@given(
    data=st.binary(max_size=300)
    | st.builds(lambda one, other: LINE[:one] + other, st.integers(0, 200), st.binary(max_size=20))
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_as_a_transcript(data: bytes) -> None:
    with suppress(TranscriptInvalid):
        read_transcript(data)


@given(key=KEYS, value=VALUES, inside=st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_value_in_a_transcript(key: str, value: object, inside: bool) -> None:
    line = json.loads(LINE)
    (line["entry"] if inside else line)[key] = value
    with suppress(TranscriptInvalid, NotCanonicalError):
        read_transcript(canonical_bytes(line) + b"\n")


@given(
    kind=st.sampled_from(
        ["root", "revocation", "permit", "time", "admission", "waiver", "enrolment", "drive-permit", "?"]
    ),
    value=VALUES,
)
@settings(max_examples=300, deadline=None)
def test_any_value_as_a_document(kind: str, value: object) -> None:
    given_value = {**(value if isinstance(value, dict) else {"x": value}), "type": kind}
    with suppress(BundleUntrusted, NotCanonicalError):
        data = canonical_bytes(given_value)
        assert document_bytes(parse_document(data)) == data


@given(
    text=st.text(max_size=200)
    | st.from_regex(
        r"(appliance 1 [a-z.]{1,9} [0-9]{1,3}\n)?([ 0-9]{1,3} [A-Z2-7 ]{1,40}\n){0,4}(end [A-Z2-7 ]{1,20})?"
    )
)
@settings(max_examples=300, deadline=None)
def test_any_text_as_typed_lines(text: str) -> None:
    with suppress(TranscriptionFailed):
        read_spoken(text)
