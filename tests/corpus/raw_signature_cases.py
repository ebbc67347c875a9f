"""Raw signatures that must not count, as DSSE envelopes hold them, and second signatures by ML-DSA-87.

For each kind of key one table: what is enrolled, the signature, and whether it is good.  Used to see that
the program refuses the hostile ones, and that stock OpenSSL agrees or is known to be less strict.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.trust.dsse import pre_authentication_encoding
from appliance.trust.keys import PublicKey, parse_blob
from appliance.trust.mldsa import SIGNATURE_SIZE, PostQuantumKey, post_quantum_key
from tests.corpus.signature_cases import ED, ORDERS, P256, P384, SPACE, alice, bob, edwards_values

PAYLOAD: Final = b'{"statement":1}'
SIGNED: Final = pre_authentication_encoding(PAYLOAD)
CONTROL: Final = "control"

#: Where the hints of an ML-DSA-87 signature are: 75 places and 8 counts, at its end (FIPS 204, table 1).
OMEGA, VECTORS = 75, 8
_HINTS: Final = SIGNATURE_SIZE - OMEGA - VECTORS
_CHALLENGE: Final = 64


@dataclass(frozen=True)
class RawCase:
    """A signature over ``SIGNED``, made with a context by ML-DSA only."""

    key: PublicKey | PostQuantumKey
    signature: bytes
    context: str = ""

    @property
    def pem(self) -> str:
        """The key as OpenSSL reads it."""
        if isinstance(self.key, PostQuantumKey):
            return self.key.pem
        return self.key.material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def tlv(tag: int, content: bytes) -> bytes:
    """A DER element, its length as short as can be."""
    size = len(content)
    head = bytes([size]) if size < 128 else bytes([0x81, size])
    return bytes([tag]) + head + content


def _pair(r: bytes, s: bytes) -> bytes:
    return tlv(0x30, tlv(2, r) + tlv(2, s))


def _number(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


@cache
def raw_cases() -> dict[str, RawCase]:
    """Those of Ed25519 and ECDSA."""
    key = parse_blob(alice().blob)
    values = {CONTROL: alice().raw(SIGNED), **edwards_values(alice().raw(SIGNED), SIGNED)}
    found = {f"{ED}: {name}": RawCase(key, value) for name, value in values.items()}
    for kind in (P256, P384):
        key = parse_blob(bob(kind).blob)
        found |= {f"{kind}: {name}": RawCase(key, value) for name, value in _der(kind).items()}
    return found


def _der(kind: str) -> dict[str, bytes]:
    n = ORDERS[kind]
    one, two = bob(kind).numbers(SIGNED)
    r, s = _number(one), _number(two)
    whole = encode_dss_signature(one, two)
    body = whole[2:] if whole[1] < 128 else whole[3:]
    size = (n.bit_length() + 7) // 8
    other = hashes.SHA256() if kind == P384 else hashes.SHA384()
    return {
        CONTROL: whole,
        f"{CONTROL}, n - s": encode_dss_signature(one, n - two),
        "r is 0": _pair(b"\0", s),
        "s is 0": _pair(r, b"\0"),
        "both are 0": _pair(b"\0", b"\0"),
        "r is n": _pair(_number(n), s),
        "s is n": _pair(r, _number(n)),
        "r is n + 1": _pair(_number(n + 1), s),
        "r + n": _pair(_number(one + n), s),
        "s + n": _pair(r, _number(two + n)),
        "r is -r": _pair(_number(-one), s),
        "s is -s": _pair(r, _number(-two)),
        "s - n": _pair(r, _number(two - n)),
        "r padded": _pair(b"\0" + r, s),
        "s padded": _pair(r, b"\0\0" + s),
        "r empty": _pair(b"", s),
        "exchanged": _pair(s, r),
        "a long length": b"\x30\x82" + len(body).to_bytes(2, "big") + body,
        "of no definite length": b"\x30\x80" + body + b"\0\0",
        "trailing byte": whole + b"\0",
        "trailing in the sequence": tlv(0x30, body + tlv(2, b"\1")),
        "a byte short": whole[:-1],
        "a set": b"\x31" + whole[1:],
        "octet strings": tlv(0x30, tlv(4, r) + tlv(4, s)),
        "r alone": tlv(0x30, tlv(2, r)),
        "no sequence": tlv(2, r) + tlv(2, s),
        "raw r and s": one.to_bytes(size, "big") + two.to_bytes(size, "big"),
        "empty": b"",
        "zeros": bytes(64),
        "of another curve's hash": encode_dss_signature(*bob(kind).numbers(SIGNED, other)),
        "over another message": encode_dss_signature(*bob(kind).numbers(SIGNED + b"x")),
        "over the bare payload": encode_dss_signature(*bob(kind).numbers(PAYLOAD)),
        "of another key": ec.generate_private_key(ec.SECP384R1() if kind == P384 else ec.SECP256R1()).sign(
            SIGNED, ec.ECDSA(hashes.SHA384() if kind == P384 else hashes.SHA256())
        ),
    }


@cache
def mldsa_cases() -> dict[str, RawCase]:
    """Those of ML-DSA-87; a change in each part of a signature, and everything another role might sign."""
    secret = mldsa.MLDSA87PrivateKey.generate()
    key = post_quantum_key(secret.public_key().public_bytes_raw())
    # Until two hints are in the first polynomial, and a place is left over at the end: nearly always.
    while True:
        raw = secret.sign(SIGNED, SPACE.encode())
        places, counts = raw[_HINTS : _HINTS + OMEGA], raw[_HINTS + OMEGA :]
        if counts[0] > 1 and counts[-1] < OMEGA:
            break

    def with_hints(new_places: bytes, new_counts: bytes) -> bytes:
        return raw[:_HINTS] + new_places + new_counts

    def flipped(position: int) -> bytes:
        return raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]

    swapped = bytes([places[1], places[0]]) + places[2:]
    doubled = bytes([places[0], places[0]]) + places[2:]
    values = {
        CONTROL: raw,
        f"{CONTROL}, by chance otherwise": secret.sign(SIGNED, SPACE.encode()),
        "of another role": secret.sign(SIGNED, b"root@appliance"),
        "of no context": secret.sign(SIGNED),
        "of a longer context": secret.sign(SIGNED, SPACE.encode() + b"\0"),
        "context within the message": secret.sign(bytes([0, len(SPACE)]) + SPACE.encode() + SIGNED),
        "over another message": secret.sign(SIGNED + b"x", SPACE.encode()),
        "of another key": mldsa.MLDSA87PrivateKey.generate().sign(SIGNED, SPACE.encode()),
        "by ML-DSA-65": mldsa.MLDSA65PrivateKey.generate().sign(SIGNED, SPACE.encode()),
        "challenge changed": flipped(0),
        "challenge's end changed": flipped(_CHALLENGE - 1),
        "z changed": flipped(_CHALLENGE),
        "z's end changed": flipped(_HINTS - 1),
        "z too large": raw[:_CHALLENGE] + b"\0" * 8 + raw[_CHALLENGE + 8 :],
        "hint moved": flipped(_HINTS),
        "hints out of order": with_hints(swapped, counts),
        "a hint twice": with_hints(doubled, counts),
        "hints counted backwards": with_hints(places, counts[::-1]),
        "more hints than there can be": with_hints(places, counts[:-1] + bytes([OMEGA + 1])),
        "a count of 255": with_hints(places, b"\xff" * VECTORS),
        "no hints": with_hints(bytes(OMEGA), bytes(VECTORS)),
        "a hint that nobody counts": with_hints(places[:-1] + b"\1", counts),
        "a byte short": raw[:-1],
        "a byte more": raw + b"\0",
        "empty": b"",
        "zeros": bytes(len(raw)),
        "ones": b"\xff" * len(raw),
    }
    return {f"ml-dsa-87: {name}": RawCase(key, value, SPACE) for name, value in values.items()}
