"""Bytes that two parsers might read differently, or that cost more to read than they are worth."""

from __future__ import annotations

import contextlib
import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Final

import pytest

from appliance.bundle import listing, manifest_reader
from appliance.trust.canonical import canonical_bytes
from tests.corpus.parsers import Parser, json_parsers, other_parsers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.group(7)

JSON = json_parsers()
OTHER = other_parsers()
#: More than any kind of file here may have, but the list and the manifest.
LARGE: Final = (2 << 20) + 1


def refuse(parser: Parser, data: bytes) -> None:
    """One of the parser's own errors, short, and safe to show on a terminal."""
    with pytest.raises(parser.errors) as caught:
        parser.parse(data)
    error = caught.value
    said = [str(error), *(getattr(error, name, None) for name in ("found", "wanted", "hint"))]
    for text in said:
        assert text is None or (text.isprintable() and len(text) < 2000), text[:200]


@pytest.mark.control
@pytest.mark.parametrize("name", [*JSON, *OTHER])
def test_what_each_parser_accepts(name: str) -> None:
    parser = {**JSON, **OTHER}[name]
    parser.parse(parser.good)


def _number(data: bytes, spelling: bytes) -> bytes:
    """The first number of a document in another spelling; of one without numbers, an array of it."""
    for key in (b'"format":1', b'"a":[1'):
        if key in data:
            return data.replace(key, key[:-1] + spelling, 1)
    return b"[" + spelling + b"]"


def _twice(data: bytes) -> bytes:
    """The first key once more: which of the two counts?"""
    key = next(iter(json.loads(data)))
    value = canonical_bytes(json.loads(data)[key])
    return b'{"' + key.encode() + b'":' + value + b"," + data[1:]


def _backwards(data: bytes) -> bytes:
    values = json.loads(data)
    turned = {key: values[key] for key in reversed(values)}
    return json.dumps(turned, separators=(",", ":"), ensure_ascii=False).encode()


def _escaped(data: bytes) -> bytes:
    """The first letter of the first key, spelled by its number."""
    return data[:2] + b"\\u00%02x" % data[2] + data[3:]


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a space": lambda _: b" ",
    "null": lambda _: b"null",
    "true": lambda _: b"true",
    "a number": lambda _: b"1",
    "a text": lambda _: b'"format"',
    "an array": lambda data: b"[" + data + b"]",
    "in quotes": lambda data: json.dumps(data.decode()).encode(),
    "half": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "a line feed after": lambda data: data + b"\n",
    "a NUL after": lambda data: data + b"\0",
    "another after": lambda data: data + b"{}",
    "twice": lambda data: data * 2,
    "a space before": lambda data: b" " + data,
    "a space within": lambda data: data.replace(b":", b": ", 1),
    "indented": lambda data: json.dumps(json.loads(data), indent=1).encode(),
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-32": lambda data: data.decode().encode("utf-32"),
    "not UTF-8": lambda data: data.replace(b'":', b'\xff":', 1),
    "UTF-8 of too many bytes": lambda data: data.replace(b'{"', b'{"\xc0\xaf', 1),
    "a surrogate": lambda data: data.replace(b'{"', b'{"\\ud800', 1),
    "an escape that is not needed": _escaped,
    "a solidus escaped": lambda data: data.replace(b'{"', b'{"\\/', 1),
    "a raw control character": lambda data: data.replace(b'{"', b'{"\x1b', 1),
    "a key twice": _twice,
    "keys backwards": _backwards,
    "NaN": lambda data: _number(data, b"NaN"),
    "Infinity": lambda data: _number(data, b"-Infinity"),
    "a fraction": lambda data: _number(data, b"1.0"),
    "an exponent": lambda data: _number(data, b"1e0"),
    "minus zero": lambda data: _number(data, b"-0"),
    "zeros before": lambda data: _number(data, b"01"),
    "plus": lambda data: _number(data, b"+1"),
    "hexadecimal": lambda data: _number(data, b"0x1"),
    "2^53": lambda data: _number(data, b"%d" % 2**53),
    "2^64 + 1": lambda data: _number(data, b"%d" % (2**64 + 1)),
    "a number of 5 MB": lambda data: _number(data, b"1" * 5_000_000),
    "a number of 30,000 digits": lambda data: _number(data, b"1" * 30_000),
    "an exponent of 30,000 digits": lambda data: _number(data, b"1e" + b"9" * 30_000),
    "arrays, deep": lambda _: b"[" * 30_000 + b"]" * 30_000,
    "objects, deep": lambda _: b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "arrays, deep, in a value": lambda data: _number(data, b"[" * 30_000 + b"]" * 30_000),
    "arrays, open": lambda _: b"[" * 60_000,
    "objects, open": lambda _: b'{"a":' * 12_000,
    "many keys": lambda _: b"{" + b",".join(b'"%06d":1' % number for number in range(6000)) + b"}",
    "a comma at the end": lambda data: data[:-1] + b",}",
    "a comment": lambda data: b"/* */" + data,
    "a comment at the end": lambda data: data + b"//",
    "single quotes": lambda data: data.replace(b'"', b"'"),
    "YAML": lambda _: b"format: 1\n",
    "YAML with an alias": lambda _: b"a: &a [1]\nb: *a\n",
    "YAML with a tag": lambda _: b"--- !!python/object/apply:os.system [true]\n",
    "XML": lambda _: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>',
    "CBOR": lambda _: b"\xa1\x66format\x01",
    "too large, blank": lambda data: data.ljust(LARGE),
    "too large, one text": lambda _: b'{"a":"'.ljust(LARGE, b"x"),
}  # fmt: skip
#: The bare spelling is anybody's: these are good canonical JSON, and no document.
GOOD_SPELLINGS = {"null", "true", "a number", "a text", "an array", "in quotes", "many keys"}


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        (name, spelling)
        for name in JSON
        for spelling in SPELLINGS
        if name != "canonical" or spelling not in GOOD_SPELLINGS
    ],
)
def test_another_spelling(name: str, spelling: str) -> None:
    refuse(JSON[name], SPELLINGS[spelling](JSON[name].good))


#: Stand in for a value of another kind.
STRANGERS: Final[list[object]] = [
    None,
    True,
    -1,
    2**53 - 1,
    "",
    "x" * 5000,
    "\x1b[2J\x1b[1;1HVERIFIED",
    "a\nb",
    "\u202e",
    "\u200b",
    [],
    [[]],
    {},
    {"\x1b[2J": 1},
]


def _kind(value: object) -> str:
    return "number" if type(value) is int else type(value).__name__


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place of a document where something stands."""
    inside = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, each in inside:
        yield (*path, key)
        yield from places(each, (*path, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


@pytest.mark.parametrize("name", [name for name in JSON if name != "canonical"])
def test_something_else_in_any_place(name: str, count_inputs: Callable[[int], None]) -> None:
    parser = JSON[name]
    whole = json.loads(parser.good)
    tried = 0
    for path in places(whole):
        for stranger in STRANGERS:
            if _kind(stranger) == _kind(at(whole, path)):
                continue
            values = deepcopy(whole)
            at(values, path[:-1])[path[-1]] = stranger
            refuse(parser, canonical_bytes(values))
            tried += 1
    count_inputs(tried)


#: Keys that may be left out.
OPTIONAL = {("journal", "revocation"), ("journal", "tpm")}


@pytest.mark.parametrize("name", [name for name in JSON if name != "canonical"])
def test_a_key_less_or_more_in_any_object(name: str, count_inputs: Callable[[int], None]) -> None:
    parser = JSON[name]
    whole = json.loads(parser.good)
    tried = 0
    objects = [(), *(path for path in places(whole) if isinstance(at(whole, path), dict))]
    for path in objects:
        for extra in ("critical", "x", "", "\x1b[2J", "format ", "\u200bformat"):
            values = deepcopy(whole)
            at(values, path)[extra] = None  # no object has a null, or any key
            refuse(parser, canonical_bytes(values))
            tried += 1
        for key in at(whole, path):
            if (name, key) in OPTIONAL or path[-1:] in {
                ("products",),
                ("components",),
                ("keys",),
                ("roles",),
            }:
                continue
            if path[-1:] == ("policy",) or (name == "manifest" and path[-1:] == ("origin",)):
                continue
            values = deepcopy(whole)
            del at(values, path)[key]
            refuse(parser, canonical_bytes(values))
            tried += 1
    count_inputs(tried)


@pytest.mark.parametrize("name", JSON)
def test_every_truncation_and_every_flipped_bit(name: str, count_inputs: Callable[[int], None]) -> None:
    """What is cut is no document; a bit more or less is none either, or says something else."""
    parser = JSON[name]
    good, before = parser.good, parser.parse(parser.good)
    step = max(1, len(good) // 400)
    for length in range(0, len(good), step):
        refuse(parser, good[:length])
    for position in range(0, len(good), step):
        for bit in (0x01, 0x20, 0x80):
            bad = good[:position] + bytes([good[position] ^ bit]) + good[position + 1 :]
            with contextlib.suppress(*parser.errors):
                assert parser.parse(bad) != before, "two spellings of one value"
    count_inputs(len(range(0, len(good), step)))


#: One parser reads all of these, by what they say they are.
STATEMENTS = {"admission", "permit", "waiver", "time", "enrolment", "drive-permit"}


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (name, other)
        for name in JSON
        for other in JSON
        if name not in {other, "canonical"} and not {name, other} <= STATEMENTS
    ],
)
def test_one_kind_of_document_is_not_another(name: str, other: str) -> None:
    refuse(JSON[name], JSON[other].good)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
@pytest.mark.parametrize("other", sorted(STATEMENTS))
def test_one_statement_under_another_s_type(name: str, other: str) -> None:
    """A time is no waiver, whoever signed it."""
    values = json.loads(JSON[name].good)
    values["type"] = other if other != name else "root"
    refuse(JSON[name], canonical_bytes(values))


OTHER_SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "a NUL": lambda _: b"\0",
    "half": lambda data: data[: len(data) // 2],
    "twice": lambda data: data * 2,
    "a byte before": lambda data: b"\0" + data,
    "a byte after": lambda data: data + b"\0",
    "two line feeds after": lambda data: data + b"\n\n",
    "byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "UTF-16": lambda data: data.decode("latin-1").encode("utf-16"),
    "ones": lambda data: b"\xff" * len(data),
    "zeros": lambda data: bytes(len(data)),
    "JSON": lambda _: b"{}",
    "an escape sequence": lambda _: b"\x1b[2J\x1b[1;1HVERIFIED\n",
    "very long": lambda data: data.ljust(LARGE, b"A"),
    "very long, of line feeds": lambda _: b"\n" * LARGE,
}


@pytest.mark.parametrize("spelling", OTHER_SPELLINGS)
@pytest.mark.parametrize("name", OTHER)
def test_other_forms_in_another_spelling(name: str, spelling: str) -> None:
    refuse(OTHER[name], OTHER_SPELLINGS[spelling](OTHER[name].good))


@pytest.mark.parametrize("filling", [b" ", b"x", b"\n", b"[", b"\0"])
def test_a_list_or_manifest_that_is_too_large(filling: bytes) -> None:
    for parser, most in ((JSON["manifest"], manifest_reader.MAX_BYTES), (OTHER["list"], listing.MAX_BYTES)):
        refuse(parser, parser.good.ljust(most + 1, filling))
