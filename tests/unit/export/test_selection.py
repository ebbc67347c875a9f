"""What may leave a node: listed fields, redacted, and tombstones for all else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.errors import SettingsInvalid
from appliance.export.selection import Selection, read_selection

SETTINGS = r"""
format: 1
streams:
  journal:
    fields: [MESSAGE, PRIORITY]
    redact: ["(?i)(password|token)=\\S+", "[0-9]{16}"]
  audit:
    fields: [syscall]
"""


@pytest.fixture
def selection() -> Selection:
    return read_selection(SETTINGS, "fields.yaml")


def applied(selection: Selection, record: Any) -> dict[str, Any]:
    data = record if isinstance(record, bytes) else json.dumps(record).encode()
    found = json.loads(selection.apply(data))
    assert isinstance(found, dict)
    return found


def test_listed_fields_leave_and_of_others_the_number(selection: Selection) -> None:
    record = {"stream": "journal", "time": 5, "fields": {"MESSAGE": "hello", "PRIORITY": "6", "_PID": "1"}}
    assert applied(selection, record) == {
        "stream": "journal",
        "time": 5,
        "fields": {"MESSAGE": "hello", "PRIORITY": "6"},
        "left_out": 1,
    }


def test_every_match_in_any_text_is_redacted(selection: Selection) -> None:
    message = ["Password=one token=two", {"token=x": ["1234567890123456", 7, None, True, 1.5]}]
    found = applied(selection, {"stream": "journal", "fields": {"MESSAGE": message}})
    assert found["fields"]["MESSAGE"] == ["*** ***", {"***": ["***", 7, None, True, 1.5]}]


def test_what_escapes_hide_is_redacted_too(selection: Selection) -> None:
    record = rb'{"stream":"journal","fields":{"MESSAGE":"p\u0061ssword=one"}}'
    assert b"one" not in selection.apply(record)


@pytest.mark.parametrize("journald", [True, False])
@pytest.mark.parametrize("several", [False, True])
def test_what_journalctl_prints_as_bytes_is_redacted_too(
    selection: Selection, journald: bool, several: bool
) -> None:
    """A field with a byte that cannot be printed is an array of numbers in its JSON."""
    data = list(b"\x1b[31mlogin password=hunter2 \xff")
    fields = {"MESSAGE": [data, "token=x"] if several else data, "PRIORITY": []}
    record = {"__CURSOR": "s=1;i=2", **fields} if journald else {"stream": "journal", "fields": fields}
    text = "\x1b[31mlogin *** \\xff"
    wanted = {"MESSAGE": [text, "***"] if several else text, "PRIORITY": []}
    assert applied(selection, record)["fields"] == wanted


def test_numbers_of_other_streams_stay_numbers(selection: Selection) -> None:
    record = {"stream": "audit", "fields": {"syscall": [1, 2]}}
    assert applied(selection, record)["fields"] == {"syscall": [1, 2]}


def test_a_pattern_of_one_stream_is_none_of_another(selection: Selection) -> None:
    record = {"stream": "audit", "fields": {"syscall": "password=one"}}
    assert applied(selection, record)["fields"] == {"syscall": "password=one"}


def test_a_line_of_journalctl_is_the_stream_journal(selection: Selection) -> None:
    record = {
        "__CURSOR": "s=1;i=2",
        "__REALTIME_TIMESTAMP": "1800000000123456",
        "__MONOTONIC_TIMESTAMP": "1",
        "MESSAGE": "hello",
        "PRIORITY": "6",
        "_PID": "1",
    }
    assert applied(selection, record) == {
        "stream": "journal",
        "time": 1_800_000_000_123,
        "fields": {"MESSAGE": "hello", "PRIORITY": "6"},
        "left_out": 1,
    }
    assert "time" not in applied(selection, {**record, "__REALTIME_TIMESTAMP": "now"})


TOMBSTONES = {
    "a stream that is not listed": (
        {"stream": "kernel", "time": 1, "fields": {"MESSAGE": "secret"}},
        "stream",
    ),
    "no stream": ({"fields": {"MESSAGE": "secret"}}, "stream"),
    "a stream that is no text": ({"stream": ["secret"]}, "stream"),
    "a stream that is too long": ({"stream": "secret" * 20}, "stream"),
    "no fields": ({"stream": "journal", "time": 1, "secret": 1}, "no fields"),
    "fields that are none": ({"stream": "journal", "fields": "secret"}, "no fields"),
    "no JSON": (b"secret", "stream"),
    "no object": (b'["secret"]', "stream"),
    "a key twice": (b'{"stream":"journal","stream":"audit","fields":{"syscall":"secret"}}', "stream"),
    "an infinite number": (b'{"stream":"journal","fields":{"MESSAGE":["secret",1e999]}}', "stream"),
    "nested too deeply": (b"[" * 30_000 + b'"secret"', "stream"),
}


@pytest.mark.parametrize(("record", "why"), TOMBSTONES.values(), ids=TOMBSTONES)
def test_what_may_not_leave_leaves_a_tombstone(selection: Selection, record: Any, why: str) -> None:
    found = applied(selection, record)
    assert found["withheld"] == why
    assert "secret" not in json.dumps(found)
    assert set(found) <= {"stream", "time", "withheld"}


WRONG = {
    "no format": ("streams: {}", 1),
    "another format": ("format: 2\nstreams: {}", 1),
    "an unknown key": ("format: 1\nstreams: {}\nfields: []", 3),
    "no fields": ("format: 1\nstreams:\n  journal:\n    redact: []", 4),
    "no pattern": (
        "format: 1\nstreams:\n  journal:\n    fields: []\n    redact:\n      - a\n      - '('",
        7,
    ),
    "a pattern of nothing": ("format: 1\nstreams:\n  j:\n    fields: []\n    redact: ['x*']", 5),
}


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_wrong_settings_are_said_with_their_place(text: str, line: int) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        read_selection(text, "fields.yaml")
    assert caught.value.where
    assert caught.value.where.line == line
