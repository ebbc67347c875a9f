"""DSSE envelopes (Dead Simple Signing Envelope, protocol and JSON envelope 1.0), read strictly.

An envelope holds an in-toto statement and one raw signature over its pre-authentication encoding, by
the very key that its holder signs bundles with.  Stricter than the specification, which leaves much
open: canonical JSON, exactly one signature, standard base64 in its one spelling, ``keyid`` ours.

Ed25519, and ECDSA on P-256 with SHA-256 and P-384 with SHA-384.  Keys on FIDO tokens (``sk-``) cannot
make one: a token signs only its own framing.  As everywhere, ECDSA signatures stay malleable, so the
bytes of an envelope never identify anything.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from appliance.errors import ProvenanceInvalid, SignatureInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from appliance.trust.keys import PublicKey

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
#: A statement names a handful of files by digest; a real envelope has a few thousand bytes.
MAX_BYTES: Final = 1 << 20

_KEYID = re.compile(r"[0-9a-f]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A well-formed envelope; nothing is verified yet.  ``keyid`` is a key's identity of ours."""

    payload: bytes
    keyid: str
    signature: bytes


def pre_authentication_encoding(payload: bytes) -> bytes:
    """The bytes that are signed: lengths make type and payload unambiguous."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def envelope_bytes(envelope: Envelope) -> bytes:
    """The envelope in its one spelling."""
    return canonical_bytes(
        {
            "payload": base64.b64encode(envelope.payload).decode("ascii"),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {
                    "keyid": envelope.keyid,
                    "sig": base64.b64encode(envelope.signature).decode("ascii"),
                }
            ],
        }
    )


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        ProvenanceInvalid: anything but what ``envelope_bytes`` writes.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise ProvenanceInvalid(
            "not canonical JSON",
            found=str(fault),
            wanted="the RFC 8785 spelling, as appliance sign writes it",
            hint="have its holder sign the bundle again",
        ) from fault
    top = Record(value, "envelope", ProvenanceInvalid)
    top.exactly(frozenset({"payload", "payloadType", "signatures"}))
    if (kind := top.text("payloadType")) != PAYLOAD_TYPE:
        top.refuse("the payload is of another type", found=kind, wanted=PAYLOAD_TYPE)
    if (count := len(top.items("signatures"))) != 1:
        top.refuse("not exactly one signature", found=str(count), wanted="1")
    (one,) = top.records("signatures")
    one.exactly(frozenset({"keyid", "sig"}))
    return Envelope(
        payload=decoded(top, "payload"), keyid=one.text("keyid", _KEYID), signature=decoded(one, "sig")
    )


def verify_envelope(envelope: Envelope, key: PublicKey) -> None:
    """Check the signature over the payload.

    Raises:
        SignatureInvalid: made by another key, over other bytes, or forged.
    """
    if envelope.keyid != key.keyid:
        raise _invalid("it names another key", found=envelope.keyid, wanted=key.keyid)
    if key.application is not None:
        raise _invalid("a key on a token cannot have made it", found=key.algorithm)
    signed = pre_authentication_encoding(envelope.payload)
    try:
        if isinstance(key.material, ed25519.Ed25519PublicKey):
            key.material.verify(envelope.signature, signed)
        else:
            r, s = decode_dss_signature(envelope.signature)
            if encode_dss_signature(r, s) != envelope.signature:
                raise _invalid("the signature is not DER", found=envelope.signature[:80].hex())
            key.material.verify(envelope.signature, signed, ec.ECDSA(digest_for(key)))
    except (InvalidSignature, ValueError):
        raise _invalid(
            "its signature does not verify", found="a signature over other bytes, or a forgery"
        ) from None


def digest_for(key: PublicKey) -> hashes.HashAlgorithm:
    """The digest an ECDSA key signs with: that of its curve's strength (RFC 5656, section 6.2.1)."""
    return hashes.SHA384() if key.algorithm.endswith("nistp384") else hashes.SHA256()


def decoded(record: Record, key: str, *, most: int = MAX_BYTES) -> bytes:
    """The bytes that stand under ``key`` in standard base64, in its one spelling of ``most`` characters."""
    text = record.text(key, _BASE64, most=most)
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as fault:
        record.refuse(f"{key} is not base64", found=str(fault))
    if base64.b64encode(data).decode("ascii") != text:
        # The last character may hold bits that no byte needs.
        record.refuse(f"{key} is not spelled as base64 is", found=text[-8:])
    return data


def _invalid(message: str, *, found: str, wanted: str | None = None) -> SignatureInvalid:
    return SignatureInvalid(
        message,
        found=found,
        wanted=wanted or "a signature by the key that its holder signed the bundle with",
        hint="do not use the bundle until it is clear who put it there; then have its holder sign again",
    )
