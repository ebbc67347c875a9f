"""ML-DSA-87 keys and signatures (FIPS 204), beside those of OpenSSH.

A second signature by another kind of mathematics: whoever learns to break elliptic curves still cannot
forge it, and whoever finds a flaw in the young scheme still meets the old one.  It never counts alone
(``appliance.trust.policy``).  The context string is the role's namespace, as in SSHSIG, so a signature
for one role serves no other.

OpenSSH has no such keys (its ``ssh-mldsa44-ed25519`` is a smaller one), so a key is written as
``ml-dsa-87 <base64 of its 2,592 bytes>``, in a ``.pub`` file and in a root.  It is identified as every
key is: by the SHA-256 of its DER SubjectPublicKeyInfo (RFC 9881).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import KeyRefused, SignatureInvalid

ALGORITHM: Final = "ml-dsa-87"
#: Sizes in bytes (FIPS 204, table 2).
KEY_SIZE: Final = 2592
SIGNATURE_SIZE: Final = 4627

_SEED_SIZE: Final = 32  # rho, from which both sides expand the matrix; what follows is t1
#: So many different bytes the 2,560 of t1 have at least.  Those of an honest key look random and have all
#: 256.  With t1 = 0 anybody can sign, and with few non-zero coefficients nobody has shown the contrary.
_LEAST_VARIETY: Final = 200
_REMEMBERED: Final = 256  # at 6 kB
_MAX_TEXT: Final = 4096


@dataclass(frozen=True, slots=True)
class PostQuantumKey:
    """A public key that passed the checks here; ``raw`` is its encoding (FIPS 204, algorithm 22)."""

    raw: bytes
    keyid: str

    @property
    def algorithm(self) -> str:
        return ALGORITHM

    @property
    def text(self) -> str:
        """The key as in a ``.pub`` file, without comment: ``ml-dsa-87 AAAA…``."""
        return f"{ALGORITHM} {base64.b64encode(self.raw).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """Spelled as ``ssh-keygen -l`` does for its keys: ``SHA256:…``."""
        digest = base64.b64encode(hashlib.sha256(self.raw).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")

    @property
    def pem(self) -> str:
        """The key as ``openssl pkeyutl -pubin -inkey`` reads it."""
        public = MLDSA87PublicKey.from_public_bytes(self.raw)
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def is_post_quantum(text: str) -> bool:
    """Whether the text of a key, or of its file, is for this module to read."""
    return text.startswith(f"{ALGORITHM} ")


@lru_cache(maxsize=_REMEMBERED)
def parse_post_quantum(text: str) -> PostQuantumKey:
    """Read a key in its one spelling without comment: ``ml-dsa-87 AAAA…``.

    The last keys are remembered: those of a chain of roots come again in each root.

    Raises:
        KeyRefused: malformed, or one that anybody could sign for.
    """
    if len(text) > _MAX_TEXT:
        raise _refused("is too long", found=f"{len(text):,} characters")
    encoded = text.removeprefix(f"{ALGORITHM} ")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as fault:
        raise _refused("is not base64", found=str(fault)) from fault
    if len(raw) != KEY_SIZE:
        raise _refused("has a wrong length", found=f"{len(raw):,} bytes", wanted=f"{KEY_SIZE:,} bytes")
    key = post_quantum_key(raw)
    if key.text != text:
        raise _refused("is misspelled", found=text[:60], wanted=key.text[:60])
    return key


def post_quantum_key(raw: bytes) -> PostQuantumKey:
    """The key with this encoding of 2,592 bytes.

    Raises:
        KeyRefused: one that anybody could sign for.
    """
    if len(set(raw[_SEED_SIZE:])) < _LEAST_VARIETY:
        raise _refused("is weak: anybody could sign for it", found=raw[_SEED_SIZE:][:32].hex())
    info = MLDSA87PublicKey.from_public_bytes(raw).public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    return PostQuantumKey(raw, hashlib.sha256(info).hexdigest())


def verify_post_quantum(key: PostQuantumKey, signature: bytes, message: bytes, namespace: str) -> None:
    """Check a signature over ``message`` made for ``namespace``.

    Raises:
        SignatureInvalid: another namespace, another message, a wrong length, or forged.
    """
    if len(signature) != SIGNATURE_SIZE:
        raise _invalid(
            "has a wrong length", found=f"{len(signature):,} bytes", wanted=f"{SIGNATURE_SIZE:,} bytes"
        )
    try:
        MLDSA87PublicKey.from_public_bytes(key.raw).verify(signature, message, namespace.encode())
    except InvalidSignature:
        raise _invalid(
            "does not verify",
            found="a signature over other bytes, for another role, or a forgery",
            wanted="what the holder's key signed",
        ) from None


def _refused(why: str, *, found: str, wanted: str | None = None) -> KeyRefused:
    return KeyRefused(
        f"an ML-DSA-87 key {why}",
        found=ascii(found),
        wanted=wanted or f"{ALGORITHM} and the base64 of {KEY_SIZE:,} bytes",
        hint="make a key with: appliance trust keygen --ml-dsa-87 FILE",
    )


def _invalid(why: str, *, found: str, wanted: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"the ML-DSA-87 signature {why}",
        found=found,
        wanted=wanted,
        hint="do not use what it signs until its holder has signed it again",
    )
