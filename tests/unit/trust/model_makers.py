"""Signs models as model-signing 1.1 does, so that a test can change any one thing about it.

That the form is right, tests/unit/trust/test_upstream_recorded.py shows with files the tool itself wrote.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.trust.dsse import pre_authentication_encoding

if TYPE_CHECKING:
    from collections.abc import Mapping

IGNORED = (".git", ".gitattributes", ".github", ".gitignore", "model.sig")


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 (hex) by name."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}


def statement(files: Mapping[str, bytes], ignored: tuple[str, ...] = IGNORED) -> dict[str, Any]:
    """What is signed, for these files."""
    found = digests(files)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": whole(found.values())}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(ignored),
            },
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest} for name, digest in found.items()
            ],
        },
    }


def whole(found: Any) -> str:
    """The digest over the digests of all files, in their order."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, found))).hexdigest()


@dataclass(frozen=True)
class Maker:
    """Somebody who makes models, and signs them with this key."""

    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()

    def sign(self, files: Mapping[str, bytes], ignored: tuple[str, ...] = IGNORED) -> bytes:
        """The signature file for these files."""
        return json.dumps(self.bundle(statement(files, ignored))).encode()

    def bundle(self, said: dict[str, Any] | bytes) -> dict[str, Any]:
        """The signature file for a statement, as values that can be changed."""
        payload = said if isinstance(said, bytes) else json.dumps(said, indent=2).encode()
        return {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(self.pem).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": base64.b64encode(self.raw(payload)).decode(), "keyid": ""}],
            },
        }

    def raw(self, payload: bytes) -> bytes:
        """The signature alone."""
        signed = pre_authentication_encoding(payload)
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(signed)
        return self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
