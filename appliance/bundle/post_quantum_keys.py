"""ML-DSA-87 key files: making them, and signing with them.

OpenSSH has no such keys, so neither ssh-keygen nor ssh-agent can help.  A private key is PKCS#8 in PEM
(RFC 9881: the 32 bytes of its seed), which openssl reads from 3.5 on, with a passphrase if one is given;
``FILE.pub`` beside it is one line as in a root (``appliance.trust.mldsa``) and a comment.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from appliance.bundle.durable import create_file, replace_file, sync_folder, writing_under
from appliance.bundle.signing_keys import SigningKey, ask_passphrase, key_of, load_private, open_key
from appliance.errors import SigningFailed, Usage
from appliance.trust.mldsa import PostQuantumKey, is_post_quantum, post_quantum_key

if TYPE_CHECKING:
    from pathlib import Path

_PKCS8: Final = (b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
_ENOUGH: Final = 64  # bytes that tell what a key file is


class PostQuantumSigner:
    """An ML-DSA-87 key that can sign now."""

    def __init__(self, material: MLDSA87PrivateKey) -> None:
        self._material = material
        self.key: PostQuantumKey = post_quantum_key(material.public_key().public_bytes_raw())

    def private_file(self, passphrase: bytes) -> bytes:
        """The private key in PKCS#8 and PEM, locked unless the passphrase is empty."""
        lock = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self._material.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)

    def sign(self, message: bytes, namespace: str) -> bytes:
        """A raw signature over ``message``, with the namespace as its context."""
        return self._material.sign(message, namespace.encode())


def generate_key(path: Path, *, passphrase: bytes, comment: str) -> PostQuantumKey:
    """Make a key: the private half at ``path``, for its owner alone, the public one at ``path.pub``.

    Args:
        path: where to write; neither file may be there.
        passphrase: what the private file is locked with; empty for nothing.
        comment: what stands behind the public key, for people.

    Raises:
        Usage: a file is there already, or the comment is not one printable line.
        PreflightFailed, SpaceExhausted: it cannot be written.
    """
    if not comment.isprintable():
        raise Usage("the comment is not printable", found=ascii(comment))
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if os.path.lexists(file):
            raise Usage(f"{file} exists already", hint="name another file; keys are never overwritten")
    signer = PostQuantumSigner(MLDSA87PrivateKey.generate())
    with writing_under(path.parent):
        # The file keeps the mode it is created with: 0600.
        with os.fdopen(create_file(path), "wb") as private:
            private.write(signer.private_file(passphrase))
            private.flush()
            os.fsync(private.fileno())
        sync_folder(path.parent)
    replace_file(public, f"{signer.key.text} {comment}".rstrip().encode() + b"\n")
    return signer.key


def ask_new_passphrase(path: Path) -> bytes:
    """A passphrase for a new key, asked for twice as ssh-keygen does; empty for none.

    Raises:
        SigningFailed: nobody can be asked, or the two differ.
    """
    once = ask_passphrase(f"Passphrase for {path} (empty for none): ", path)
    if ask_passphrase("The same passphrase again: ", path) != once:
        raise SigningFailed(
            "the two passphrases differ", wanted="the same twice", hint="run the command again"
        )
    return once


def open_signer(path: Path) -> SigningKey | PostQuantumSigner:
    """The key in a file, of either kind; an SSH key also in ssh-agent or on a token.

    Raises:
        Usage, SigningFailed, KeyRefused: as ``appliance.bundle.signing_keys.open_key``.
    """
    private = path.with_suffix("") if path.suffix == ".pub" else path
    beside = _start(private.with_name(f"{private.name}.pub"))
    expected = is_post_quantum(beside.decode("utf-8", "replace"))
    if not expected and (beside or not _start(private).startswith(_PKCS8)):
        return open_key(path)
    if not private.is_file():
        raise SigningFailed(
            f"there is no private key for {path}",
            found=f"no file {private}",
            wanted="the private key beside it: ssh-agent holds no ML-DSA keys",
        )
    material = load_private(private)
    if isinstance(material, MLDSA87PrivateKey):
        return PostQuantumSigner(material)
    if expected or material is None:
        raise SigningFailed(
            f"{private} is not the private key of {private.name}.pub",
            wanted="an ML-DSA-87 key",
            hint="put the two files of one key beside each other",
        )
    return key_of(material, private)


def _start(path: Path) -> bytes:
    """The first bytes of a file; none if it is not there or cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_ENOUGH)
    except OSError:
        return b""
