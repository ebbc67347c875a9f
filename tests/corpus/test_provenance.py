"""Provenance that must not be believed: each wrong envelope refuses the bundle, by its name.

An envelope lies outside the signed list, so anybody who holds the medium can put one there.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from appliance.bundle.provenance import statement_bytes
from appliance.bundle.reader import read_contents, read_signed
from appliance.bundle.sign import sign_bundle
from appliance.bundle.signing_keys import open_key
from appliance.bundle.tree import Tree
from appliance.errors import BundleMalformed, BundleUntrusted, ProvenanceInvalid, SignatureInvalid
from appliance.progress import Silent
from appliance.trust.canonical import canonical_bytes
from appliance.trust.dsse import MAX_BYTES, pre_authentication_encoding
from appliance.trust.root import root_bytes
from tests.independent.agreement import verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.root import Root
    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.group(8)

#: The orders of the groups of Ed25519 and P-384.
_L = 2**252 + 27742317777372353535851937790883648493
_N384 = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)


@pytest.fixture
def verify(bundle: Path, two_of_three: Root) -> Callable[[], VerifiedBundle]:
    return lambda: verify_bundle(bundle, root_bytes(two_of_three), progress=Silent())


def place(bundle: Path, holder: str = "alice") -> Path:
    return bundle / f"trust/provenance.{holder}.dsse.json"


def envelope(bundle: Path, holder: str = "alice") -> dict[str, Any]:
    return json.loads(place(bundle, holder).read_bytes())


def statement(bundle: Path) -> dict[str, Any]:
    with Tree(bundle) as tree:
        signed = read_signed(tree)
        contents = read_contents(tree, signed)
    return json.loads(statement_bytes(signed.digests, contents.manifest, contents.files))


def state(bundle: Path, holders: Holders, said: bytes | dict[str, Any], by: str = "alice") -> None:
    """Let a holder, deceived or dishonest, sign another statement."""
    payload = said if isinstance(said, bytes) else canonical_bytes(said)
    raw = open_key(holders.key(by)).sign_raw(pre_authentication_encoding(payload))
    assert raw is not None
    value = envelope(bundle, by)
    value["payload"] = base64.b64encode(payload).decode()
    value["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    place(bundle, by).write_bytes(canonical_bytes(value))


def refused(verify: Callable[[], object], error: type[BundleUntrusted], match: str) -> None:
    with pytest.raises(error) as caught:
        verify()
    assert re.search(match, caught.value.message), caught.value.message
    for text in (caught.value.message, caught.value.found, caught.value.wanted, caught.value.hint):
        assert text is None or (text.isprintable() and len(text) < 1000)


@pytest.mark.control
def test_it_is_there_and_may_be_missing(bundle: Path, verify: Callable[[], VerifiedBundle]) -> None:
    """The control; and that it counts for nothing."""
    assert verify().provenance == ("alice", "bob")
    place(bundle).unlink()
    place(bundle, "bob").unlink()
    assert verify().provenance == ()


@pytest.mark.control
def test_what_it_says(bundle: Path, verify: Callable[[], VerifiedBundle]) -> None:
    said = json.loads(base64.b64decode(envelope(bundle)["payload"]))
    verified = verify()
    assert said == statement(bundle)
    assert said["subject"] == [{"name": "trust/SHA256SUMS", "digest": {"sha256": verified.digest}}]
    assert "definition" in [
        each["name"] for each in said["predicate"]["buildDefinition"]["resolvedDependencies"]
    ]
    assert b"created" not in canonical_bytes(said)


@pytest.mark.group(9)
def test_a_holder_who_did_not_sign(bundle: Path, verify: Callable[[], object]) -> None:
    shutil.copy(place(bundle), place(bundle, "carol"))
    refused(verify, ProvenanceInvalid, "provenance of carol: its holder did not sign")


def test_another_holder_s(bundle: Path, verify: Callable[[], object]) -> None:
    shutil.copy(place(bundle), place(bundle, "bob"))
    refused(verify, SignatureInvalid, "provenance of bob: it names another key")


def test_another_holder_s_under_the_right_key_s_name(bundle: Path, verify: Callable[[], object]) -> None:
    value = envelope(bundle)
    value["signatures"][0]["keyid"] = envelope(bundle, "bob")["signatures"][0]["keyid"]
    place(bundle, "bob").write_bytes(canonical_bytes(value))
    refused(verify, SignatureInvalid, "provenance of bob: its signature does not verify")


def test_a_stranger_s(bundle: Path, holders: Holders, verify: Callable[[], object]) -> None:
    payload = canonical_bytes(statement(bundle))
    raw = open_key(holders.key("mallory")).sign_raw(pre_authentication_encoding(payload))
    assert raw is not None
    value = envelope(bundle)
    value["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    place(bundle).write_bytes(canonical_bytes(value))
    refused(verify, SignatureInvalid, "does not verify")


@pytest.mark.group(9)
def test_a_key_of_another_role(maker: BundleMaker, holders: Holders) -> None:
    """Carol may sign patches; her release signature is refused before her provenance is looked at."""
    root = holders.root("alice", "bob")
    bundle = maker.sign(maker.write("other", root), "alice", "bob")
    value = envelope(bundle)
    value["signatures"][0]["keyid"] = holders.root("carol", solo=True).roles["release"].keys[0]
    place(bundle, "carol").write_bytes(canonical_bytes(value))
    with pytest.raises(ProvenanceInvalid, match="did not sign"):
        verify_bundle(bundle, root_bytes(root), progress=Silent())


@pytest.mark.group(10)
def test_another_bundle_s(
    bundle: Path, maker: BundleMaker, two_of_three: Root, verify: Callable[[], object]
) -> None:
    """Well signed, by the right key, and about something else."""
    lock = maker.lock().model_copy(update={"version": "0.9.0"})
    old = maker.sign(maker.write("old", two_of_three, lock), "alice")
    shutil.copy(place(old), place(bundle))
    refused(verify, ProvenanceInvalid, "it is about another bundle")


def test_an_sshsig_is_no_envelope_s_signature(bundle: Path, verify: Callable[[], object]) -> None:
    """A signature over the list cannot be passed off for one over a statement."""
    armoured = (bundle / "trust/SHA256SUMS.alice.sig").read_text().splitlines()[1:-1]
    value = envelope(bundle)
    value["signatures"][0]["sig"] = base64.b64encode(base64.b64decode("".join(armoured))[-64:]).decode()
    place(bundle).write_bytes(canonical_bytes(value))
    refused(verify, SignatureInvalid, "does not verify")


SAID: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another file as subject": (
        lambda said: said["subject"][0].update(name="manifest.json"),
        "about another bundle",
    ),
    "two subjects": (lambda said: said["subject"].append(said["subject"][0]), "about another bundle"),
    "no subject": (lambda said: said["subject"].clear(), "about another bundle"),
    "another digest too": (
        lambda said: said["subject"][0]["digest"].update(sha512="0" * 128),
        "about another bundle",
    ),
    "another lock": (
        lambda said: said["predicate"]["buildDefinition"]["resolvedDependencies"][1]["digest"].update(
            sha256="0" * 64
        ),
        r"otherwise at .predicate.buildDefinition.resolvedDependencies\[1\]",
    ),
    "another manifest": (
        lambda said: said["predicate"]["runDetails"]["byproducts"][0]["digest"].update(sha256="0" * 64),
        r"otherwise at .predicate.runDetails.byproducts\[0\]",
    ),
    "another builder": (
        lambda said: said["predicate"]["runDetails"]["builder"].update(id="urn:other"),
        "otherwise at .predicate.runDetails.builder.id",
    ),
    "an unknown key": (lambda said: said.update(extra=1), "otherwise at .extra"),
    "a hostile key": (lambda said: said.update({"\x1b[2J\u202e": 1}), "otherwise at "),
    "a key less": (lambda said: said.pop("predicateType"), "otherwise at .predicateType"),
    "another predicate": (lambda said: said.update(predicateType="x"), "otherwise at .predicateType"),
    "another statement type": (lambda said: said.update(_type="x"), "otherwise at ._type"),
    "a time": (
        lambda said: said["predicate"]["runDetails"].update(metadata={"startedOn": "2026-01-31T12:00:00Z"}),
        "otherwise at .predicate.runDetails.metadata",
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_a_statement_that_says_otherwise(
    case: str, bundle: Path, holders: Holders, verify: Callable[[], object]
) -> None:
    """Signed by alice herself: what a signature is over still has to be this bundle's one statement."""
    said = statement(bundle)
    SAID[case][0](said)
    state(bundle, holders, said)
    refused(verify, ProvenanceInvalid, f"provenance of alice: it .*{SAID[case][1]}|{SAID[case][1]}")


PAYLOADS = {
    "nothing": b" ",
    "no object": b"[]",
    "not JSON": b"{",
    "spelled otherwise": b'{"a": 1}',
    "a key twice": b'{"a":1,"a":1}',
    "not text": b"\xff\xfe",
    "nested deeply": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a huge number": b"9" * 100_000,
}


@pytest.mark.parametrize("case", PAYLOADS)
@pytest.mark.group(7)
def test_a_payload_that_is_no_statement(
    case: str, bundle: Path, holders: Holders, verify: Callable[[], object]
) -> None:
    state(bundle, holders, PAYLOADS[case])
    refused(verify, ProvenanceInvalid, "provenance of alice: ")


def spelled(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return canonical_bytes(value)

    return apply


def loose_bits(value: dict[str, Any]) -> None:
    """A last character with bits that no byte needs: lenient decoders see the same bytes."""
    text = value["signatures"][0]["sig"]
    assert text.endswith("==")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    value["signatures"][0]["sig"] = text[:-3] + alphabet[alphabet.index(text[-3]) + 1] + "=="


def first(value: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = value["signatures"][0]
    return one


ENVELOPES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no object": lambda _: b"[]",
    "trailing line feed": lambda data: data + b"\n",
    "trailing bytes": lambda data: data + b"{}",
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "indented": lambda data: json.dumps(json.loads(data), indent=1).encode(),
    "a key twice": lambda data: data.replace(b'{"payload"', b'{"payload":"e30=","payload"'),
    "nested deeply": lambda _: b"[" * 200_000 + b"]" * 200_000,
    "another payload type": spelled(lambda value: value.update(payloadType="application/json")),
    "another type of the same length": spelled(
        lambda value: value.update(payloadType="application/vnd.in-toto+JSON")
    ),
    "no payload type": spelled(lambda value: value.pop("payloadType")),
    "an unknown key": spelled(lambda value: value.update(extra="x")),
    "an unknown key of a signature": spelled(lambda value: first(value).update(cert="x")),
    "two signatures": spelled(lambda value: value["signatures"].append(first(value))),
    "no signature": spelled(lambda value: value["signatures"].clear()),
    "a signature that is none": spelled(lambda value: value.update(signatures=["x"])),
    "signatures that are none": spelled(lambda value: value.update(signatures={})),
    "no key's name": spelled(lambda value: first(value).update(keyid="")),
    "a key's name in capitals": spelled(
        lambda value: first(value).update(keyid=first(value)["keyid"].upper())
    ),
    "base64 without padding": spelled(
        lambda value: first(value).update(sig=first(value)["sig"].rstrip("="))
    ),
    "base64 with loose bits": spelled(loose_bits),
    "base64 with white space": spelled(lambda value: first(value).update(sig=first(value)["sig"] + " ")),
    "base64 for addresses": spelled(lambda value: first(value).update(sig="-_" + first(value)["sig"][2:])),
    "no signature's bytes": spelled(lambda value: first(value).update(sig="")),
    "a payload that is no text": spelled(lambda value: value.update(payload=1)),
}  # fmt: skip


@pytest.mark.parametrize("case", ENVELOPES)
@pytest.mark.group(7)
def test_a_malformed_envelope(case: str, bundle: Path, verify: Callable[[], object]) -> None:
    path = place(bundle)
    path.write_bytes(ENVELOPES[case](path.read_bytes()))
    refused(verify, ProvenanceInvalid, "provenance of alice: ")


@pytest.mark.group(7)
def test_a_huge_one_is_not_even_read(bundle: Path, verify: Callable[[], object]) -> None:
    place(bundle).write_bytes(b" " * (MAX_BYTES + 1))
    refused(verify, BundleMalformed, "too large")


def _ed25519_plus_l(raw: bytes) -> bytes:
    scalar = int.from_bytes(raw[32:], "little") + _L
    return raw[:32] + scalar.to_bytes(32, "little")


def _long_length(der: bytes) -> bytes:
    """BER, not DER: the outer length in a form longer than needed."""
    return der[:1] + b"\x81" + der[1:]


@pytest.mark.parametrize(
    ("holder", "change"),
    [
        ("alice", _ed25519_plus_l),
        ("alice", lambda raw: raw[:-1]),
        ("alice", lambda raw: raw + b"\0"),
        ("alice", lambda _: b"\x01" + b"\0" * 63),
        ("bob", _long_length),
        ("bob", lambda raw: raw + b"\0"),
        ("bob", lambda raw: raw[:-1]),
        ("bob", lambda _: encode_dss_signature(0, 0)),
        ("bob", lambda _: encode_dss_signature(1, _N384)),
        ("bob", lambda raw: encode_dss_signature(decode_dss_signature(raw)[0] + _N384, 1)),
        ("bob", lambda _: b"\0" * 64),
    ],
)
def test_a_malleated_signature(
    holder: str, change: Callable[[bytes], bytes], bundle: Path, verify: Callable[[], object]
) -> None:
    value = envelope(bundle, holder)
    raw = base64.b64decode(first(value)["sig"])
    first(value)["sig"] = base64.b64encode(change(raw)).decode()
    place(bundle, holder).write_bytes(canonical_bytes(value))
    refused(verify, SignatureInvalid, f"provenance of {holder}: ")


@pytest.mark.control
def test_the_one_that_mathematics_allows(bundle: Path, verify: Callable[[], VerifiedBundle]) -> None:
    """(r, n-s) verifies wherever (r, s) does; so nothing is identified by an envelope's bytes."""
    value = envelope(bundle, "bob")
    r, s = decode_dss_signature(base64.b64decode(first(value)["sig"]))
    first(value)["sig"] = base64.b64encode(encode_dss_signature(r, _N384 - s)).decode()
    place(bundle, "bob").write_bytes(canonical_bytes(value))
    assert verify().provenance == ("alice", "bob")


def test_a_key_exchanged_by_its_holder(
    bundle: Path, holders: Holders, verify: Callable[[], object]
) -> None:
    """An envelope by a key that nobody enrolled, beside a good signature."""
    payload = canonical_bytes(statement(bundle))
    raw = ed25519.Ed25519PrivateKey.generate().sign(pre_authentication_encoding(payload))
    value = envelope(bundle)
    first(value)["sig"] = base64.b64encode(raw).decode()
    place(bundle).write_bytes(canonical_bytes(value))
    refused(verify, SignatureInvalid, "does not verify")
    done = sign_bundle(bundle, holders.key("bob"))
    assert [message for message in done.spoilt if "provenance of alice" in message]
    sign_bundle(bundle, holders.key("alice"))
    assert verify() is not None
