"""Keys that models are signed with: ECDSA on P-256, P-384 and P-521 as model-signing has them, and Ed25519.

Ed25519 is in Sigstore's list of algorithms and costs nothing here; model-signing 1.1 cannot sign with it.
RSA is refused as everywhere (decision 7).  Such a key puts nothing on a node, so curves are allowed that
holders of a bundle's root may not use.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from appliance.errors import KeyRefused, UpstreamSignatureInvalid
from appliance.trust import edwards

Material = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

#: A PEM file of one key, with room for a comment.
MAX_PEM: Final = 8192
_DIGESTS: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class UpstreamKey:
    """A public key of a kind that is allowed; ``der`` is its SubjectPublicKeyInfo."""

    der: bytes
    material: Material

    @property
    def fingerprint(self) -> str:
        """Its identity: SHA-256 (hex) of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """How model-signing names it: SHA-256 (hex) of its PEM form."""
        pem = self.material.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(pem).hexdigest()


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose signers count for one model; ``der`` is its certificate.

    What it takes to use it is in ``appliance.trust.upstream_certificates``, imported where it is needed.
    """

    der: bytes


def parse_pem(data: bytes) -> UpstreamKey:
    """Read a PEM file.

    Raises:
        KeyRefused: malformed, private, of a kind not allowed, or weak.
    """
    if b"PRIVATE KEY" in data:
        raise _refused("this is a private key", found="PRIVATE KEY")
    try:
        return allowed_key(load_pem_public_key(data[: MAX_PEM + 1]))
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise _refused("not a public key", found=str(fault)) from fault


def parse_der(data: bytes) -> UpstreamKey:
    """Read a SubjectPublicKeyInfo in its one spelling; errors as of ``parse_pem``."""
    try:
        key = allowed_key(load_der_public_key(data))
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise _refused("not a public key", found=str(fault)) from fault
    if key.der != data:
        raise _refused("a public key is misspelled", found=data[:40].hex())
    return key


def allowed_key(material: object) -> UpstreamKey:
    """The key, if it is of a kind that is allowed and sound; errors as of ``parse_pem``."""
    if isinstance(material, ec.EllipticCurvePublicKey):
        if material.curve.name not in _DIGESTS:
            raise _refused("a key on a curve that is not accepted", found=material.curve.name)
    elif isinstance(material, ed25519.Ed25519PublicKey):
        if not edwards.is_sound(material.public_bytes_raw()):
            raise _refused("a weak Ed25519 key: anybody could sign for it")
    else:
        raise _refused("a key of this kind is not accepted", found=type(material).__name__)
    return UpstreamKey(material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), material)


def require_signature(key: UpstreamKey, signature: bytes, signed: bytes) -> None:
    """Refuse a signature that ``key`` did not make over ``signed``.

    Raises:
        UpstreamSignatureInvalid: made by another key, over other bytes, or forged.
    """
    try:
        if isinstance(key.material, ed25519.Ed25519PublicKey):
            key.material.verify(signature, signed)
        else:
            key.material.verify(signature, signed, ec.ECDSA(_DIGESTS[key.material.curve.name]))
    except (InvalidSignature, ValueError):
        raise UpstreamSignatureInvalid(
            "the signature of the model does not verify",
            found="a signature by another key, over other bytes, or a forgery",
            wanted=f"one by the key with fingerprint {key.fingerprint}",
            hint="do not use the model until its makers say what they signed, and with which key",
        ) from None


def _refused(message: str, *, found: str | None = None) -> KeyRefused:
    return KeyRefused(
        message,
        found=None if found is None else ascii(found)[1:-1][:200],
        wanted="a public key in PEM: ECDSA on P-256, P-384 or P-521, or Ed25519",
        hint="make the PEM file with: openssl pkey -pubin -in KEY -pubout",
    )
