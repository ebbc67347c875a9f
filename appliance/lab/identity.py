"""Keys made for one lab and thrown away with it.  Ed25519, in OpenSSH's own formats (PROTOCOL.key)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KeyPair:
    """``private``: an OpenSSH private key file's text.  ``public``: one line, ``ssh-ed25519 AAAA…``."""

    private: str
    public: str


def new_key_pair() -> KeyPair:
    """A fresh key pair without a passphrase."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return KeyPair(private.decode("ascii"), public.decode("ascii"))
