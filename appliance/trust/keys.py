"""OpenSSH public keys: reading them, and refusing those that prove nothing.

Allowed are Ed25519 and ECDSA on P-256 and P-384, each also on a hardware token (``sk-``, not for
P-384, which OpenSSH does not have).  RSA and DSA are refused: their weak keys (small, shared or
predictable primes, small exponents) cannot be told from good ones by looking, and every signer that
can hold an RSA key can hold one of these.

A key is identified by the SHA-256 of its DER SubjectPublicKeyInfo (RFC 5280, section 4.1), so one
key has one identity however it was written down, on a token or not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import KeyRefused
from appliance.trust import edwards
from appliance.trust.wire import WireError, WireReader, string

Material = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

_CURVES: Final[dict[str, ec.EllipticCurve]] = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1()}
ALLOWED: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
_MAX_TEXT: Final = 4096
#: Four roots' worth of keys.  A key is a value, and what it is made of tells all about it.
_REMEMBERED: Final = 256
_LINE: Final = re.compile(r"(\S+) (\S+)(?: ([^\r\n]*))?")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that passed every check of this module.

    ``blob`` is its SSH wire form; ``keyid`` the lower-case hex SHA-256 of its SubjectPublicKeyInfo;
    ``application`` is set for keys on hardware tokens only.
    """

    algorithm: str
    blob: bytes
    keyid: str
    material: Material
    application: str | None = None

    @property
    def text(self) -> str:
        """The key as in a ``.pub`` file, without comment: ``ssh-ed25519 AAAA…``."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """The fingerprint ``ssh-keygen -l`` prints: ``SHA256:…``."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return "SHA256:" + digest.rstrip("=")


def parse_public(text: str) -> PublicKey:
    """Read a key in its one spelling without comment: ``ssh-ed25519 AAAA…``.

    Raises:
        KeyRefused: malformed, of a kind not allowed, or weak.
    """
    if len(text) > _MAX_TEXT or not text.isascii():
        raise _refused("a public key is too long or not ASCII", found=text[:80])
    algorithm, _, encoded = text.partition(" ")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error as fault:
        raise _refused("a public key is not base64", found=str(fault)) from fault
    key = parse_blob(blob)
    if key.text != text:
        raise _refused(
            "a public key is misspelled", found=f"{algorithm} {encoded[:40]}…", wanted=f"{key.text[:60]}…"
        )
    return key


def parse_public_file(text: str) -> PublicKey:
    """Read the text of a ``.pub`` file: one line, the comment is ignored.

    Raises:
        KeyRefused: more than one line, or as ``parse_public``.
    """
    match = _LINE.fullmatch(text.removesuffix("\n").removesuffix("\r"))
    if "PRIVATE KEY" in text:
        raise _refused("this is a private key", found="PRIVATE KEY", wanted="the .pub file beside it")
    if not match:
        raise _refused("not a public key file", wanted="one line: TYPE BASE64 COMMENT")
    return parse_public(f"{match[1]} {match[2]}")


@lru_cache(maxsize=_REMEMBERED)
def parse_blob(blob: bytes) -> PublicKey:
    """Read a key in SSH wire form (RFC 4253 section 6.6, RFC 5656 section 3.1, RFC 8709 section 4).

    The last keys are remembered: those of a chain of roots come again in each root and signature.

    Raises:
        KeyRefused: malformed, of a kind not allowed, or weak.
    """
    reader = WireReader(blob)
    try:
        algorithm = reader.text()
        if algorithm not in ALLOWED:
            raise _refused("a key of this kind is not accepted", found=algorithm[:80])
        material = _ed25519(reader) if "ed25519" in algorithm else _ecdsa(reader, algorithm)
        application = reader.text() if algorithm.startswith("sk-") else None
        reader.end()
    except WireError as fault:
        raise _refused("a public key is malformed", found=str(fault)) from fault
    if application is not None and not application.startswith("ssh:"):
        raise _refused(
            "a token key was made for another application", found=application[:80], wanted="ssh:"
        )
    info = material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(algorithm, blob, hashlib.sha256(info).hexdigest(), material, application)


def _ed25519(reader: WireReader) -> Material:
    encoded = reader.string()
    if not edwards.is_sound(encoded):
        raise _refused(
            "a weak Ed25519 key: anybody could sign for it",
            found=encoded[:32].hex(),
            wanted="the canonical encoding of a point of prime order",
        )
    return ed25519.Ed25519PublicKey.from_public_bytes(encoded)


def _ecdsa(reader: WireReader, algorithm: str) -> Material:
    name = reader.text()
    curve = _CURVES.get(name)
    if curve is None or f"ecdsa-sha2-{name}" not in algorithm:
        raise _refused("an ECDSA key names another curve than its type", found=name[:80], wanted=algorithm)
    point = reader.string()
    # Only the uncompressed form (0x04): one key, one encoding.
    if len(point) != 1 + 2 * ((curve.key_size + 7) // 8) or point[0] != 4:  # noqa: PLR2004 - SEC 1, 2.3.3
        raise _refused("an ECDSA key is not an uncompressed point", found=point[:8].hex())
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise _refused("an ECDSA key is not a point of its curve", found=point[:8].hex()) from fault


def encode_blob(algorithm: str, *fields: bytes) -> bytes:
    """The wire form of a key with these fields; no check is made."""
    return b"".join(string(part) for part in (algorithm.encode("ascii"), *fields))


def _refused(message: str, *, found: str | None = None, wanted: str | None = None) -> KeyRefused:
    return KeyRefused(
        message,
        found=None if found is None else ascii(found),
        wanted=wanted or ", ".join(ALLOWED),
        hint="make a key with: ssh-keygen -t ed25519   (or: -t ecdsa -b 384)",
    )
