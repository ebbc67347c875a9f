"""DSSE envelopes: the specification's own vector, and that stock tools agree about ours.

What is refused stands in tests/corpus/test_provenance.py.
"""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from appliance.bundle.signing_keys import open_key
from appliance.errors import SignatureInvalid
from appliance.trust import dsse
from appliance.trust.dsse import (
    Envelope,
    envelope_bytes,
    parse_envelope,
    pre_authentication_encoding,
    verify_envelope,
)
from appliance.trust.keys import encode_blob, parse_blob, parse_public_file

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.keys import PublicKey
    from tests.conftest import Holders

STATEMENT = b'{"_type":"x"}'


def public(holders: Holders, name: str) -> PublicKey:
    return parse_public_file(holders.public(name))


def signed(holders: Holders, name: str, payload: bytes = STATEMENT) -> Envelope:
    raw = open_key(holders.key(name)).sign_raw(pre_authentication_encoding(payload))
    assert raw is not None
    return Envelope(payload, public(holders, name).keyid, raw)


def test_the_encoding_of_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one test vector of the DSSE protocol, version 1.0."""
    monkeypatch.setattr(dsse, "PAYLOAD_TYPE", "http://example.com/HelloWorld")
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding(b"hello world") == expected


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_what_is_written_is_read_and_verifies(name: str, holders: Holders) -> None:
    envelope = signed(holders, name)
    assert parse_envelope(envelope_bytes(envelope)) == envelope
    verify_envelope(envelope, public(holders, name))
    other = Envelope(envelope.payload + b" ", envelope.keyid, envelope.signature)
    with pytest.raises(SignatureInvalid):
        verify_envelope(other, public(holders, name))


def test_a_token_s_key_proves_nothing_here(holders: Holders) -> None:
    """The same point on and off a token has one identity, but a token never signs like this."""
    envelope = signed(holders, "alice")
    point = public(holders, "alice").material.public_bytes(Encoding.Raw, PublicFormat.Raw)
    token = parse_blob(encode_blob("sk-ssh-ed25519@openssh.com", point, b"ssh:"))
    assert token.keyid == envelope.keyid
    with pytest.raises(SignatureInvalid, match="token"):
        verify_envelope(envelope, token)


@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_openssl_verifies_it(name: str, holders: Holders, tmp_path: Path) -> None:
    """With nothing but base64, printf and openssl, as docs/sbom.md shows."""
    value = json.loads(envelope_bytes(signed(holders, name)))
    payload = base64.b64decode(value["payload"])
    kind = value["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(value["signatures"][0]["sig"]))
    (tmp_path / "key.pem").write_bytes(
        public(holders, name).material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    if name == "alice":
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "key.pem"]
        command += ["-sigfile", "sig", "-in", "pae"]
    else:
        digest = {"bob": "-sha384", "carol": "-sha256"}[name]
        command = ["openssl", "dgst", digest, "-verify", "key.pem", "-signature", "sig", "pae"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "pae").write_bytes((tmp_path / "pae").read_bytes()[:-1] + b" ")
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    ("name", "kind", "scheme"),
    [
        ("alice", "ed25519", "ed25519"),
        ("bob", "ecdsa", "ecdsa-sha2-nistp384"),
        ("carol", "ecdsa", "ecdsa-sha2-nistp256"),
    ],
)
def test_the_library_of_in_toto_verifies_it(name: str, kind: str, scheme: str, holders: Holders) -> None:
    value = json.loads(envelope_bytes(signed(holders, name)))
    keyid = value["signatures"][0]["keyid"]
    material = public(holders, name).material
    if kind == "ed25519":
        text = material.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    else:
        text = material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    key = SSlibKey(keyid, kind, scheme, {"public": text})
    envelope = OtherEnvelope.from_dict(value)
    assert envelope.payload == STATEMENT
    envelope.verify([key], threshold=1)  # raises otherwise
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([key], threshold=1)
