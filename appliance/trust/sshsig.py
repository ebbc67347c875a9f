"""SSHSIG signatures, as ``ssh-keygen -Y sign`` makes them (OpenSSH, PROTOCOL.sshsig).

Stricter than ``ssh-keygen -Y verify``: the armour is accepted only byte for byte as OpenSSH writes it
(nothing before, between or after), the reserved field must be empty, numbers in their shortest form,
the signature algorithm that of the key, and a token must have been touched.

ECDSA signatures stay malleable: (r, n-s) verifies where (r, s) does, as everywhere.  So a signature's
bytes never identify anything here; keys do.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from appliance.errors import SignatureInvalid
from appliance.trust.keys import PublicKey, encode_blob, parse_blob
from appliance.trust.wire import WireError, WireReader, mpint, string

#: No signature of an allowed kind is longer, as a file.
MAX_BYTES: Final = 8 * 1024

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_LINE: Final = 70
_HASHES: Final = ("sha256", "sha512")
_ED25519_SIZE: Final = 64
_TOUCHED, _VERIFIED = 0x01, 0x04  # FIDO: user presence, user verification


@dataclass(frozen=True, slots=True)
class Signature:
    """A well-formed signature; nothing is verified yet.

    ``flags`` and ``counter`` are what a hardware token adds; both None for other keys.
    """

    key: PublicKey
    namespace: str
    hash_name: str
    value: bytes
    flags: int | None = None
    counter: int | None = None


def parse_signature(armoured: bytes) -> Signature:
    """Read the bytes of a ``.sig`` file.

    Raises:
        SignatureInvalid: not exactly what OpenSSH writes.
        KeyRefused: the key in it is weak or of a kind not allowed.
    """
    reader = WireReader(_unarmour(armoured))
    try:
        if reader.raw(len(_MAGIC)) != _MAGIC or reader.uint32() != _VERSION:
            raise WireError("not an SSH signature of version 1")
        blob, namespace, reserved = reader.string(), reader.text(), reader.string()
        hash_name, value = reader.text(), reader.string()
        reader.end()
    except WireError as fault:
        raise _invalid("the signature is malformed", found=str(fault)) from fault
    if reserved:
        raise _invalid("the signature's reserved field is not empty", found=reserved[:32].hex())
    if hash_name not in _HASHES:
        raise _invalid(
            "the signature uses another hash", found=ascii(hash_name[:40]), wanted=" or ".join(_HASHES)
        )
    return _with_value(parse_blob(blob), namespace, hash_name, value)


def verify_signature(signature: Signature, message: bytes, namespace: str) -> None:
    """Check a signature over ``message`` made for ``namespace``.

    Raises:
        SignatureInvalid: another namespace, another message, or forged.
    """
    if signature.namespace != namespace:
        raise _invalid(
            "the signature was made for another role", found=ascii(signature.namespace), wanted=namespace
        )
    signed = signed_data(message, namespace, signature.hash_name)
    key = signature.key
    if key.application is not None:
        if signature.flags is None or signature.counter is None:
            raise ValueError("a token's signature has flags and a counter")
        signed = (
            hashlib.sha256(key.application.encode()).digest()
            + bytes([signature.flags])
            + signature.counter.to_bytes(4, "big")
            + hashlib.sha256(signed).digest()
        )
    try:
        if isinstance(key.material, ed25519.Ed25519PublicKey):
            key.material.verify(signature.value, signed)
        else:
            key.material.verify(_der(signature), signed, ec.ECDSA(_curve_hash(key)))
    except InvalidSignature:
        raise _invalid(
            "the signature does not verify", found="a signature over other bytes, or a forgery"
        ) from None


def signed_data(message: bytes, namespace: str, hash_name: str = "sha512") -> bytes:
    """What a key signs for ``message`` (PROTOCOL.sshsig, section 4)."""
    digest = hashlib.new(hash_name, message).digest()
    return _MAGIC + b"".join(string(part) for part in (namespace.encode(), b"", hash_name.encode(), digest))


def signature_file(key: PublicKey, namespace: str, value: bytes, hash_name: str = "sha512") -> bytes:
    """The ``.sig`` file for a signature by ``key`` over ``signed_data``.

    Args:
        key: not one on a token.
        namespace: as in ``signed_data``.
        value: 64 bytes of Ed25519, or DER of ECDSA.
        hash_name: as in ``signed_data``.
    """
    if not isinstance(key.material, ed25519.Ed25519PublicKey):
        value = b"".join(string(mpint(number)) for number in decode_dss_signature(value))
    parts = (key.blob, namespace.encode(), b"", hash_name.encode(), encode_blob(key.algorithm, value))
    return armour(_MAGIC + _VERSION.to_bytes(4, "big") + b"".join(string(part) for part in parts))


def armour(blob: bytes) -> bytes:
    """The file OpenSSH writes for a binary signature: base64 in lines of 70."""
    text = base64.b64encode(blob)
    lines = [text[start : start + _LINE] + b"\n" for start in range(0, len(text), _LINE)]
    return _BEGIN + b"".join(lines) + _END


def _unarmour(armoured: bytes) -> bytes:
    if len(armoured) > MAX_BYTES:
        raise _invalid("the signature file is too long", found=f"{len(armoured):,} bytes")
    try:
        blob = base64.b64decode(armoured.removeprefix(_BEGIN).removesuffix(_END).replace(b"\n", b""))
    except binascii.Error as fault:
        raise _invalid("the signature is not base64", found=str(fault)) from fault
    # One spelling: whatever decoding was lenient about shows up here.
    if armour(blob) != armoured:
        raise _invalid("the signature file is not spelled as OpenSSH writes it")
    return blob


def _with_value(key: PublicKey, namespace: str, hash_name: str, value: bytes) -> Signature:
    reader = WireReader(value)
    flags = counter = None
    try:
        algorithm, raw = reader.text(), reader.string()
        if key.application is not None:
            flags, counter = reader.byte(), reader.uint32()
        reader.end()
    except WireError as fault:
        raise _invalid("the signature is malformed", found=str(fault)) from fault
    if algorithm != key.algorithm:
        raise _invalid(
            "the signature is of another kind than its key",
            found=ascii(algorithm[:80]),
            wanted=key.algorithm,
        )
    if flags is not None and (not flags & _TOUCHED or flags & ~(_TOUCHED | _VERIFIED)):
        raise _invalid("the token was not touched for this signature", found=f"flags {flags:#04x}")
    signature = Signature(key, namespace, hash_name, raw, flags, counter)
    if isinstance(key.material, ed25519.Ed25519PublicKey):
        if len(raw) != _ED25519_SIZE:
            raise _invalid("the signature has a wrong length", found=str(len(raw)), wanted="64 bytes")
    else:
        _der(signature)
    return signature


def _der(signature: Signature) -> bytes:
    """The numbers r and s of an ECDSA signature (RFC 5656, section 3.1.2), as DER."""
    reader = WireReader(signature.value)
    try:
        r, s = reader.positive(), reader.positive()
        reader.end()
    except WireError as fault:
        raise _invalid("the signature is malformed", found=str(fault)) from fault
    return encode_dss_signature(r, s)


def _curve_hash(key: PublicKey) -> hashes.HashAlgorithm:
    return hashes.SHA384() if key.algorithm.endswith("nistp384") else hashes.SHA256()


def _invalid(message: str, *, found: str | None = None, wanted: str | None = None) -> SignatureInvalid:
    return SignatureInvalid(
        message,
        found=found,
        wanted=wanted or "a signature as made by: appliance sign, or ssh-keygen -Y sign",
        hint="do not use the bundle until its signer has signed it again",
    )
