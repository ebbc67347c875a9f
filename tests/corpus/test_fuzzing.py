"""Every parser, with what hypothesis makes up: only its own errors, and one spelling of what it accepts.

Random bytes seldom get past the first check, so most inputs here are good ones with something wrong: JSON
documents with other values in some places, spelled canonically again; SSH structures with other fields;
parity packets whose digests are right.  What is accepted must be spelled back as it was.
"""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.bundle.listing import listing_bytes
from appliance.bundle.manifest import manifest_bytes
from appliance.bundle.media.label import label_bytes
from appliance.bundle.parity.packets import (
    CHECKSUMS,
    FILE,
    MAIN,
    RECOVERY,
    Description,
    Packet,
    packet_bytes,
)
from appliance.errors import KeyRefused, SignatureInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes
from appliance.trust.documents import DOCUMENT, signer_in
from appliance.trust.dsse import envelope_bytes
from appliance.trust.journal import journal_bytes
from appliance.trust.keys import parse_public_file
from appliance.trust.revocation import revocation_bytes
from appliance.trust.root import root_bytes
from appliance.trust.sshsig import armour, parse_signature, verify_signature
from appliance.trust.statements import parse_time, statement_bytes, time_text
from appliance.trust.wire import WireError, WireReader, string
from tests.corpus.parsers import Parser, json_parsers, other_parsers, parity_packets
from tests.corpus.signature_cases import BEGIN, ED, END, HEAD, MESSAGE, SPACE, alice, good
from tests.corpus.test_parsers import STATEMENTS, at, places
from tests.independent.agreement import decide, parse_post_quantum, parse_public

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.group(7)

JSON, OTHER = json_parsers(), other_parsers()
#: How what each parser returns is spelled.
SPELL: dict[str, Callable[[Any], bytes]] = {
    "canonical": canonical_bytes,
    "root": root_bytes,
    "revocation": revocation_bytes,
    "journal": journal_bytes,
    "envelope": envelope_bytes,
    "manifest": manifest_bytes,
    "label": label_bytes,
    **dict.fromkeys(STATEMENTS, statement_bytes),
    **dict.fromkeys(("list", "stricter list"), lambda listing: listing_bytes(dict(listing.items()))),
    "key": lambda key: key.blob,
    "ML-DSA key": lambda key: key.text.encode(),
}
fuzz = settings(deadline=None, max_examples=120)  # a loaded machine is no fault


def check(name: str, parser: Parser, data: bytes) -> None:
    """Refused by its own error, or spelled back byte for byte."""
    try:
        found = parser.parse(data)
    except parser.errors as refusal:
        for text in (str(refusal), getattr(refusal, "found", None), getattr(refusal, "wanted", None)):
            assert text is None or (text.isprintable() and len(text) < 4000)
    else:
        if name in SPELL:
            assert SPELL[name](found) == data


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, -1, 2**53 - 1, 2**53, 4 << 20, 1 << 30])
    | st.text(max_size=20)
    | st.sampled_from(["", "*", "a" * 64, "0" * 64, "..", "\x1b[2J", "2026-01-31T12:00:00Z", "0644"])
    | st.floats(),
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=8), inside, max_size=4),
    max_leaves=8,
)


#: Whole documents, to be put where something else stood.
OTHERS = st.sampled_from(sorted(JSON)).map(lambda name: json.loads(JSON[name].good))


def _a_little_off(draw: st.DrawFn, value: object) -> object:
    """A value of the same kind."""
    if type(value) is int:
        return value + draw(st.sampled_from([-1, 1, 2**31, -value, 2**53]))
    if isinstance(value, str):
        cut = draw(st.integers(0, len(value)))
        return value[:cut] + draw(st.text(max_size=2)) + value[cut + 1 :]
    return [value]


def _change(draw: st.DrawFn, place: Any, last: Any) -> None:
    how = draw(st.sampled_from(["value", "near", "move", "remove", "again"]))
    if how == "value":
        place[last] = draw(values)
    elif how == "near":
        place[last] = _a_little_off(draw, place[last])
    elif how == "move":
        place[last] = draw(OTHERS)
    elif how == "remove":
        del place[last]
    elif isinstance(place, list):
        place.insert(draw(st.integers(0, len(place))), deepcopy(place[last]))
    else:
        place[draw(st.text(max_size=70))] = deepcopy(place[last])


@st.composite
def documents(draw: st.DrawFn, name: str) -> bytes:
    """A good document with a few places changed, each in some way, spelled canonically if it can be."""
    whole = json.loads(JSON[name].good)
    for _ in range(draw(st.integers(1, 3))):
        if not (there := list(places(whole))):
            break
        path = draw(st.sampled_from(there))
        _change(draw, at(whole, path[:-1]), path[-1])
    try:
        return canonical_bytes(whole)
    except NotCanonicalError:
        return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")


#: Pieces that parsers stumble over.
TOKENS = [
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u0000", b"\\ud800", b"1e999", b"-", b"NaN",
    b"\xff", b"\xc0\x80", b"\xef\xbb\xbf", b"\0", b"\n", b"\r\n", b"  ", b"=", b"A" * 70, b"9" * 40,
    b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"PAR2\0PKT", b"SSHSIG", b"-----", b"../", b"\x1b[2J",
]  # fmt: skip


@st.composite
def spoilt(draw: st.DrawFn, whole: bytes) -> bytes:
    """Good bytes, some of them exchanged, cut out, repeated, or with something put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(data)))
        end = min(len(data), first + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(TOKENS) | st.binary(max_size=8) | st.just(bytes(data[first:end]) * 2))
        data[first:end] = piece
    return bytes(data)


@pytest.mark.parametrize("name", JSON)
@fuzz
@given(data=st.data())
def test_documents_with_something_wrong(name: str, data: st.DataObject) -> None:
    check(name, JSON[name], data.draw(documents(name)))


@pytest.mark.parametrize("name", [*JSON, *OTHER])
@fuzz
@given(data=st.data())
def test_good_bytes_with_something_wrong(name: str, data: st.DataObject) -> None:
    parser = {**JSON, **OTHER}[name]
    check(name, parser, data.draw(spoilt(parser.good)))


@pytest.mark.parametrize("name", [*JSON, *OTHER])
@fuzz
@given(data=st.binary(max_size=400))
@example(data=b"")
@example(data=b"\xff\xfe")
@example(data=b'{"\\u001b[2J":{}}')
@example(data=b'{"a":1,"a":1}')
@example(data=b"[" * 5000)
@example(data=b"-" * 5000)
@example(data=b'"\\ud800"')
def test_any_bytes(name: str, data: bytes) -> None:
    check(name, {**JSON, **OTHER}[name], data)


@fuzz
@given(values)
@example(float("nan"))
@example(-0.0)
@example(2**53)
@example({"\ufffd": 1, "\U00010000": 2})
@example({"1e5": 1.5})
@example("\ud800")
def test_what_can_be_spelled_is_read_back(value: object) -> None:
    try:
        data = canonical_bytes(value)
    except NotCanonicalError:
        return
    check("canonical", JSON["canonical"], data)


fields = st.lists(
    st.binary(max_size=80)
    | st.sampled_from(
        [
            alice().blob,
            SPACE.encode(),
            b"",
            b"sha512",
            b"sha256",
            string(ED.encode()) + string(alice().raw()),
            ED.encode(),
            alice().point,
            b"nistp256",
            b"\4" + bytes(64),
        ]
    ),
    max_size=7,
)
heads = st.sampled_from([HEAD, b"", b"SSHSIG", b"SSHSIG\0\0\0\2", b"SSHSIG\0\0\1\0"])


@fuzz
@given(heads, fields, st.binary(max_size=8))
def test_ssh_structures(head: bytes, parts: list[bytes], more: bytes) -> None:
    """Well-formed strings in any order; only the one right order is a signature."""
    blob = head + b"".join(map(string, parts)) + more
    try:
        found = parse_signature(armour(blob))
        verify_signature(found, MESSAGE, SPACE)
    except (SignatureInvalid, KeyRefused):
        pass
    else:
        assert armour(blob) == good()
    check("key", OTHER["key"], blob[len(head) :])


@fuzz
@given(spoilt(good()))
def test_a_spoilt_signature_never_counts(armoured: bytes) -> None:
    if armoured != good():
        with pytest.raises((SignatureInvalid, KeyRefused)):
            verify_signature(parse_signature(armoured), MESSAGE, SPACE)


@fuzz
@given(spoilt(base64.b64decode(good().removeprefix(BEGIN).removesuffix(END))))
def test_a_spoilt_signature_in_a_good_armour_never_counts(blob: bytes) -> None:
    if armour(blob) != good():
        with pytest.raises((SignatureInvalid, KeyRefused)):
            verify_signature(parse_signature(armour(blob)), MESSAGE, SPACE)


@fuzz
@given(st.text(max_size=300))
@example("ssh-ed25519 AAAA\u200b")
@example("ml-dsa-87 \u0660")
@example("ssh-ed25519  x")
@example("-----BEGIN OPENSSH PRIVATE KEY-----")
def test_any_text_is_no_key(text: str) -> None:
    for parse in (parse_public, parse_public_file, parse_post_quantum):
        with pytest.raises(KeyRefused):
            parse(text)


@fuzz
@given(st.binary(max_size=60), st.lists(st.sampled_from(["string", "text", "uint32", "byte", "positive"])))
def test_any_fields_are_read_or_refused(data: bytes, kinds: list[str]) -> None:
    reader = WireReader(data)
    try:
        for kind in kinds:
            getattr(reader, kind)()
        reader.end()
    except WireError:
        pass


lines = st.builds(
    lambda digest, path: f"{digest}  {path}",
    st.sampled_from(["a" * 64, "0" * 64, "A" * 64, "a" * 63]),
    st.sampled_from(["VERIFY.txt", "blocks.bin", "payload/a/b", "payload/a", "trust/root.1.json"])
    | st.from_regex(r"payload/[a-z]{1,3}(/[A-Za-z0-9._~-]{1,6}){1,3}", fullmatch=True)
    | st.text(max_size=12),
)  # fmt: skip


@fuzz
@given(st.lists(lines, max_size=8), st.booleans())
def test_lists_of_any_lines(some: list[str], ordered: bool) -> None:
    every = [*(f"{'a' * 64}  {name}" for name in ("VERIFY.txt", "blocks.bin", "manifest.json")), *some]
    chosen = sorted(every, key=lambda line: line[66:].encode("utf-8", "replace")) if ordered else every
    data = "".join(f"{line}\n" for line in chosen).encode("utf-8", "replace")
    check("list", OTHER["list"], data)


bodies = st.binary(max_size=120) | st.builds(
    lambda size, count, rest: size.to_bytes(8, "little") + count.to_bytes(4, "little") + rest,
    st.sampled_from([0, 3, 4, 4096, 1 << 40]),
    st.integers(0, 4),
    st.binary(max_size=64),
)
packets = st.builds(
    packet_bytes,
    st.sampled_from([bytes(16), b"\1" * 16]),
    st.sampled_from([MAIN, FILE, CHECKSUMS, RECOVERY, b"PAR 2.0\0Unknown\0", bytes(16)]),
    bodies,
)


@fuzz
@given(st.lists(packets | st.binary(max_size=80) | st.sampled_from(TOKENS), max_size=8))
@example([b"PAR2\0PKT"])
@example([packet_bytes(bytes(16), RECOVERY, b"")])
@example([packet_bytes(bytes(16), MAIN, b"")])
@example([packet_bytes(bytes(16), FILE, b"")])
def test_parity_of_any_packets(parts: list[bytes]) -> None:
    """Sound packets with any contents; what they describe is nothing, or made of whole parts."""
    found = parity_packets(b"".join(parts))
    for set_id in {packet.set_id for packet in found}:
        description = Description(set_id)
        for packet in found:
            assert isinstance(packet, Packet)
            assert packet.exponent >= 0
            description.add(packet)
        described = description.described()
        assert description.block_size >= 0
        if described is not None:
            assert all(each.size and len(each.blocks) % 20 == 0 for each in described)


@fuzz
@given(st.text(max_size=30) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"))
@example("2026-01-31T24:00:00Z")
@example("0001-01-01T00:00:00Z")
@example("9999-12-31T23:59:59Z")
@example("0000-01-01T00:00:00Z")
def test_any_text_is_a_time_in_its_one_spelling_or_none(text: str) -> None:
    try:
        time = parse_time(text)
    except ValueError:
        return
    assert time_text(time) == text


@fuzz
@given(
    st.text(max_size=60) | st.from_regex(r"root\.[0-9]{1,3}\.[a-z.-]{1,20}\.(sig|mldsa87)", fullmatch=True)
)
@example("root.2.alice.00000000.sig\n")
@example("root.2..00000000.sig")
@example("root.2.../x.00000000.sig")
def test_any_file_s_name_is_a_signature_s_or_none(name: str) -> None:
    assert DOCUMENT.fullmatch("root.2.json")
    found = signer_in("root.2.json", name)
    if found is not None:
        assert name == f"root.2.{found[0]}.{found[1]}"
        assert "/" not in found[0]
        assert name.isprintable()


@fuzz
@given(
    st.dictionaries(
        st.text(max_size=20) | st.sampled_from(["alice", "alice.00000000", "bob."]),
        st.binary(max_size=60) | spoilt(good()),
        max_size=3,
    ),
    st.sampled_from(["release", "root", "site", "\x1b[2J", ""]),
)
def test_any_files_are_too_few_signatures(files: dict[str, bytes], role: str) -> None:
    """Whatever lies there under whatever name, the verdict is a verdict."""
    root: Any = JSON["root"].parse(JSON["root"].good)
    assert not decide(MESSAGE, files, root, role, post_quantum=files).accepted
