r"""What is written of a frame: one line of JSON, or one message of RFC 5424, for each record.  Pure.

The same frame always gives the same bytes: so whoever was cut off while writing writes the same again.
Both are plain ASCII; whatever a terminal or a parser would act on is escaped (``\u001b``), so that a line
that a node's intruder wrote is one line, and only text.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from appliance.export.block import BlockKind, parse_block
from appliance.export.payload import MAX_DEPTH, MAX_RECORD, records_of, statement_of
from appliance.export.segments import Frame, FrameKind
from appliance.export.sinks.simple import is_printable, which_are_simple
from appliance.trust.canonical import depth_of, parse_foreign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.export.block import BlockHeader

#: RFC 5612: the enterprise number for examples and documents; the project has none of its own.
_STRUCTURED: Final = "appliance@32473"
_FACILITY: Final = 16  # local0
_NOTICE: Final = 5
_INFORMATIONAL: Final = 6
_UNREAD: Final = ""
#: A line: what lines of its block begin with, its sequence, and the record as it is.
_RECORD: Final = b'%s,"sequence":%d,"record":%s}\n'
_MAX_TIME: Final = 253_402_300_799_999  # the last millisecond of the year 9999

T = TypeVar("T")


class Entry(NamedTuple):
    """One thing to write: a record, or what a statement says of records or a start.

    ``value`` is the record as JSON, or its text where it is no JSON object; ``spelled`` are its bytes if
    they are JSON of printable ASCII, which need not be spelled again, and perhaps not read either.
    """

    node: str
    epoch: int
    block: int
    first: int
    last: int
    kind: str
    value: dict[str, Any] | str
    fork: bool
    spelled: bytes = b""


def entries(frame: Frame, node: str) -> Iterator[Entry]:
    """What a frame of an archive says; nothing, unless it is a block."""
    if frame.kind not in (FrameKind.BLOCK, FrameKind.FORK):
        return
    block = parse_block(frame.data, kept=True)
    header, fork = block.header, frame.kind == FrameKind.FORK
    if header.kind is BlockKind.RECORDS:
        records = records_of(block)
        simple = which_are_simple(records)
        for sequence, record in enumerate(records, header.first):
            yield _entry(header, sequence, record, node, fork=fork, simple=simple[sequence - header.first])
    else:
        kind = "dropped" if header.kind is BlockKind.DROPS else "opened"
        stated = statement_of(block)
        yield Entry(node, header.epoch, header.block, header.first, header.last, kind, stated, fork)


def _entry(
    header: BlockHeader, sequence: int, record: bytes, node: str, *, fork: bool, simple: bool
) -> Entry:
    value, spelled = (_UNREAD, record) if simple else _value(record)
    return Entry(node, header.epoch, header.block, sequence, sequence, "record", value, fork, spelled)


def json_lines(frame: Frame, node: str) -> list[bytes]:
    """The lines that ``json_line`` makes of the entries of a frame; a block's are made together."""
    block = parse_block(frame.data, kept=True) if frame.kind == FrameKind.BLOCK else None
    if block is None or block.header.kind is not BlockKind.RECORDS:
        return [json_line(each) for each in entries(frame, node)]
    header, records = block.header, records_of(block)
    begin = _begin(node, header.epoch, header.block)
    return [
        _RECORD % (begin, sequence, record)
        if simple
        else json_line(_entry(header, sequence, record, node, fork=False, simple=False))
        for sequence, (record, simple) in enumerate(
            zip(records, which_are_simple(records), strict=True), header.first
        )
    ]


def of_each(make: Callable[[Entry], T]) -> Callable[[Frame, str], list[T]]:
    """What makes something of each entry of a frame."""
    return lambda frame, node: [make(each) for each in entries(frame, node)]


def _value(record: bytes) -> tuple[dict[str, Any] | str, bytes]:
    """The record, if it is a JSON object that all readers read alike; and its bytes, if plain."""
    try:
        value = parse_foreign(record, limit=MAX_RECORD)
        if isinstance(value, dict) and not _is_deep(record, value):
            if is_printable(record):
                return value, record
            json.dumps(value, allow_nan=False)  # whether it can be written again
            return value, b""
    except (ValueError, RecursionError):
        pass
    return record.decode("utf-8", "backslashreplace"), b""


def _is_deep(record: bytes, value: dict[str, Any]) -> bool:
    """Whether the line around a record could be too deep for whoever writes or reads it."""
    return record.count(b"[") + record.count(b"{") > MAX_DEPTH < depth_of(value)


def _read(entry: Entry) -> dict[str, Any] | str:
    """The value of an entry, also where it was not read yet."""
    return entry.value if entry.value or not entry.spelled else _value(entry.spelled)[0]


def json_line(entry: Entry) -> bytes:
    """One line: ``node``, ``epoch``, ``block``, ``sequence`` and what it is.

    A statement has ``first`` and ``last`` in place of ``sequence``; what is of another history, ``fork``.
    """
    if entry.spelled and not entry.fork:
        return _RECORD % (_begin(entry.node, entry.epoch, entry.block), entry.first, entry.spelled)
    values: dict[str, Any] = {
        "node": entry.node,
        "epoch": entry.epoch,
        "block": entry.block,
        entry.kind: _read(entry),
    }
    if entry.kind == "record":
        values["sequence"] = entry.first
    else:
        values |= {"first": entry.first, "last": entry.last}
    if entry.fork:
        values["fork"] = True
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def _begin(node: str, epoch: int, block: int) -> bytes:
    """What the lines of one block begin with; a node's name is of letters, digits and hyphens."""
    return f'{{"block":{block},"epoch":{epoch},"node":"{node}"'.encode("ascii")


def syslog_message(entry: Entry) -> bytes:
    """One message of RFC 5424, without an end of line; sequences stand in its structured data."""
    value = _read(entry)
    record = value if isinstance(value, dict) else {}
    parameters = {"node": entry.node, "epoch": entry.epoch, "block": entry.block, "sequence": entry.first}
    if entry.kind != "record":
        parameters["last"] = entry.last
    if entry.fork:
        parameters["fork"] = 1
    structured = " ".join(
        [_STRUCTURED, *(f'{name}="{_parameter(str(each))}"' for name, each in parameters.items())]
    )
    return (
        f"<{_FACILITY * 8 + _severity(entry, record)}>1 {_timestamp(record.get('time'))} "
        f"{_name(entry.node, 255)} {_name(record.get('stream'), 48)} - {entry.kind} [{structured}] "
        f"{_text(value)}"
    ).encode("ascii")


def _severity(entry: Entry, record: dict[str, Any]) -> int:
    if entry.kind != "record":
        return _NOTICE
    fields = record.get("fields")
    found = fields.get("PRIORITY") if isinstance(fields, dict) else None
    return int(found) if isinstance(found, str) and found in set("01234567") else _INFORMATIONAL


def _timestamp(time: object) -> str:
    if type(time) is not int or not 0 <= time <= _MAX_TIME:
        return "-"
    seconds, rest = divmod(time, 1000)
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:03}Z"


def _name(value: object, most: int) -> str:
    """A name of printable ASCII without spaces, as RFC 5424 wants it; ``-`` is none."""
    if not isinstance(value, str):
        return "-"
    kept = "".join(each if "!" <= each <= "~" else "_" for each in value[:most])
    return kept or "-"


def _parameter(value: str) -> str:
    return "".join(f"\\{each}" if each in '"\\]' else each for each in value)


def _text(value: dict[str, Any] | str) -> str:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return json.dumps(value)[1:-1]
