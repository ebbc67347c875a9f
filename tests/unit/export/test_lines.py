"""What sinks are given: one line for each record, whatever a record holds."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appliance.export.payload import Drop
from appliance.export.segments import Frame, FrameKind, Place
from appliance.export.sinks.lines import Entry, entries, json_line, json_lines, of_each, syslog_message
from appliance.export.sinks.simple import are_simple, which_are_simple
from appliance.trust.canonical import parse_foreign
from tests.unit.export.nodes import NOW, Node

if TYPE_CHECKING:
    from appliance.export.block import Block


def frame(block: Block, kind: FrameKind = FrameKind.BLOCK) -> Frame:
    return Frame(kind, block.data, Place(1, 0), Place(1, 1))


def only(*records: bytes) -> list[Entry]:
    node = Node()
    return list(entries(frame(node.block(*records)), "gpu-01"))


RECORD = json.dumps(
    {"stream": "journal", "time": 1_800_000_000_123, "fields": {"MESSAGE": "hello", "PRIORITY": "3"}}
).encode()


def test_each_record_is_a_line_with_its_place_in_the_chain() -> None:
    one, two = only(RECORD, b'{"stream":"audit"}')
    assert json.loads(json_line(one)) == {
        "node": "gpu-01",
        "epoch": 1,
        "block": 1,
        "sequence": 1,
        "record": json.loads(RECORD),
    }
    assert json.loads(json_line(two))["sequence"] == 2


def test_a_message_of_rfc_5424_carries_the_same() -> None:
    (one,) = only(RECORD)
    assert syslog_message(one) == (
        b"<131>1 2027-01-15T08:00:00.123Z gpu-01 journal - record "
        b'[appliance@32473 node="gpu-01" epoch="1" block="1" sequence="1"] '
        b'{"fields":{"MESSAGE":"hello","PRIORITY":"3"},"stream":"journal","time":1800000000123}'
    )


def test_drops_and_openings_are_said_too() -> None:
    node = Node()
    drop = node.builder.drop(5, Drop("spool-full", 99, NOW, NOW), NOW)
    (opened,), (dropped,) = entries(frame(node.blocks[0]), "a"), entries(frame(drop), "a")
    assert json.loads(json_line(opened))["opened"] == {"reason": "start"}
    assert json.loads(json_line(dropped)) == {
        "node": "a",
        "epoch": 1,
        "block": 1,
        "first": 1,
        "last": 5,
        "dropped": {"reason": "spool-full", "bytes": 99, "since": NOW, "until": NOW},
    }
    assert b'dropped [appliance@32473 node="a" epoch="1" block="1" sequence="1" last="5"]' in (
        syslog_message(dropped)
    )


def test_another_history_is_marked() -> None:
    node = Node()
    forked = frame(node.block(b"{}"), FrameKind.FORK)
    (entry,) = entries(forked, "a")
    assert json_lines(forked, "a") == [json_line(entry)]
    assert json.loads(json_line(entry))["fork"] is True
    assert b'fork="1"' in syslog_message(entry)


@pytest.mark.parametrize("kind", [FrameKind.CHECKPOINT, FrameKind.STATE])
def test_other_frames_say_nothing_to_a_sink(kind: FrameKind) -> None:
    assert list(entries(Frame(kind, b"x", Place(1, 0), Place(1, 1)), "a")) == []


HOSTILE = {
    "line feeds": b"one\ntwo\r\nthree",
    "an escape": b"\x1b]0;title\x07\x1b[2J",
    "a direction": "\u202eabc\u200b".encode(),
    "not UTF-8": b"\xff\xfe\x00",
    "JSON with an escape in it": json.dumps({"fields": {"MESSAGE": "\x1b[2J\n<0>1 - - -"}}).encode(),
    "a key twice": b'{"a":1,"a":2}',
    "no number": b'{"a":NaN}',
    "an infinite one": b'{"a":1e999}',
    "a huge one": b'{"a":' + b"9" * 5000 + b"}",
    "nested deeply": b"[" * 30_000,
    "nested objects": b'{"a":' * 900 + b"1" + b"}" * 900,
    "an array": b"[1]",
    "nothing": b"",
    "a stream with spaces and quotes": b'{"stream":"a b\\"]\\n","time":-5}',
    "a stream that is no text": b'{"stream":{},"time":"now","fields":{"PRIORITY":9}}',
    "a lone surrogate": b'{"a":"\\ud800"}',
}
MESSAGE = re.compile(
    rb"<(\d{1,3})>1 (-|[0-9TZ:.-]+) [!-~]{1,255} [!-~]{1,48} - record "
    rb'\[appliance@32473( [a-z]+="([^"\\\]]|\\["\\\]])*")+\] [ -~]*'
)


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_whatever_a_record_holds_it_is_one_line_of_plain_text(record: bytes) -> None:
    (entry,) = only(record)
    line = json_line(entry)
    assert line.endswith(b"\n")
    assert re.fullmatch(rb"[ -~]*", line[:-1])
    assert json.loads(line)["sequence"] == 1
    assert MESSAGE.fullmatch(syslog_message(entry))


def test_what_readers_might_read_differently_is_given_as_text() -> None:
    for name in ("a key twice", "no number", "an infinite one", "an array", "nothing"):
        (entry,) = only(HOSTILE[name])
        assert json.loads(json_line(entry))["record"] == HOSTILE[name].decode()


PIECES = ['"', "{", "}", ":", ",", "a", "b", "\\\\", " ", "1", "\x00", "é", "[", "]", '":"', '","']


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@example('{"a":"1","b":"2"}')
@example('{"a":"1","a":"2"}')
@example('{"a":"1","b":2}')
@example("{}")
@example('{"a":"","":"a"}')
@example('{"a","b"}')
@example('{"a":"1";"b":"2"}')
@example('{"a":"1\n2"}')
@example('{"a":"}')
@example('{"a}')
def test_what_is_read_off_quotation_marks_is_what_a_parser_reads(text: str) -> None:
    """Nothing is simple that a parser refuses, or that has to be escaped."""
    record = text.encode()
    if are_simple([record]):
        value = parse_foreign(record, limit=1000)
        assert isinstance(value, dict)
        assert all(isinstance(each, str) for each in value.values())
        assert text.isprintable()
        assert text.isascii()
    (entry,) = only(record)
    assert json.loads(json_line(entry))["record"] in (text, _or_none(record))


@given(st.lists(st.lists(st.sampled_from([*PIECES, "\n"]), max_size=14).map("".join), max_size=5))
@example(['{"a":"1"}', '{"a":"2"}'])
@example(['{"a":"1"}', ""])
@example(['{"a":"1"} ', '{"b":"2"}'])
@example(['{"a":"1\n2"}', '{"b":"2"}'])
@example(['{"a":"1"}\n{"b":"2"}'])
@example(["", '{"a":"1"}'])
@example(['{"a":"1"}\n{"a":"2"}', '{"b":"3"}'])
@example(['{"a":"1', '","b":"2"}'])
@example(['{"a":"1"}', '{"b":"1","b":"2"}'])
@example(['{"b":"1","b":"2"}', '{"a":"1"}'])
@example(['{"a":"1","b":"2"}', '{"b":"1","a":"2"}'])
@example(['{"a":"1"}', '{"a":"\\\\"}', '{"a":"2"}'])
def test_a_block_is_looked_at_together_as_each_record_alone(texts: list[str]) -> None:
    """Whatever stands beside a record changes neither what it is taken for nor its line."""
    records = [each.encode() for each in texts]
    assert which_are_simple(records) == [which_are_simple([each])[0] for each in records]
    assert are_simple(records) == all(are_simple([each]) for each in records)
    if records:
        made = frame(Node().block(*records))
        assert json_lines(made, "gpu-01") == [json_line(each) for each in entries(made, "gpu-01")]


def _or_none(record: bytes) -> object:
    try:
        return parse_foreign(record, limit=1000)
    except ValueError:
        return None


def test_simple_records_are_told_from_others() -> None:
    assert are_simple([b'{"MESSAGE":"hello","PRIORITY":"3"}'])
    for name, record in HOSTILE.items():
        assert not are_simple([record]), name


def test_quotes_and_brackets_are_escaped_in_structured_data() -> None:
    entry = Entry('a"b]c\\', 1, 1, 1, 1, "record", {}, fork=False)
    assert rb'node="a\"b\]c\\"' in syslog_message(entry)


@pytest.mark.parametrize("inside", ["", '"\u00e9"'])
@pytest.mark.parametrize("kind", [FrameKind.BLOCK, FrameKind.FORK])
def test_what_the_parser_just_takes_is_written_too(inside: str, kind: FrameKind) -> None:
    """How deep that is depends on the version of Python; what is written around it is deeper still."""

    def record(depth: int) -> bytes:
        return ('{"a":' + "[" * depth + inside + "]" * depth + "}").encode()

    def taken(depth: int) -> bool:
        try:
            return isinstance(parse_foreign(record(depth), limit=1 << 16), dict)
        except ValueError:
            return False

    low, high = 1, 32_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if taken(middle) else (low, middle)
    node = Node()
    for depth in (*range(98, 102), *range(low - 20, low + 2)):
        found = frame(node.block(record(depth)), kind)
        (line,) = json_lines(found, "gpu-01")
        assert (b'"record":"' in line) == (depth > 99)
        assert MESSAGE.fullmatch(of_each(syslog_message)(found, "gpu-01")[0])
