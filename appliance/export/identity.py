"""Who exports: the secret half that a node keeps, and the half that a receiver is given.

Both are canonical JSON.  The node's id is random, so that a node that gets a new key stays the same node;
the key proves, the tag's key only screens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import ExportIdentityInvalid, KeyRefused
from appliance.export.packet import TAG_KEY_BYTES
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.keys import parse_public
from appliance.trust.record import Record

IDENTITY: Final = "appliance-export-identity"
SENDER: Final = "appliance-export-sender"
MAX_BYTES: Final = 4096
_NODE: Final = re.compile(r"[0-9a-f]{16}")
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ALGORITHM: Final = "ssh-ed25519"


@dataclass(frozen=True)
class Sender:
    """What a receiver knows of a node: its name, its id, the key that signs, the key of its tags."""

    name: str
    node: bytes
    key: Ed25519PublicKey
    tag_key: bytes

    @property
    def data(self) -> bytes:
        """The file that is carried to the receiver."""
        public = self.key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode("ascii")
        return canonical_bytes(
            {
                "format": 1,
                "type": SENDER,
                "name": self.name,
                "node": self.node.hex(),
                "public": public,
                "tag": self.tag_key.hex(),
            }
        )


@dataclass(frozen=True)
class Identity:
    """What a node keeps to itself."""

    name: str
    node: bytes
    key: Ed25519PrivateKey
    tag_key: bytes

    @property
    def data(self) -> bytes:
        """The secret file."""
        return canonical_bytes(
            {
                "format": 1,
                "type": IDENTITY,
                "name": self.name,
                "node": self.node.hex(),
                "private": self.key.private_bytes_raw().hex(),
                "tag": self.tag_key.hex(),
            }
        )

    @property
    def sender(self) -> Sender:
        return Sender(self.name, self.node, self.key.public_key(), self.tag_key)


def new_identity(name: str, entropy: bytes) -> Identity:
    """An identity made of 72 random bytes.

    Raises:
        ExportIdentityInvalid: the name is none.
    """
    if not _NAME.fullmatch(name):
        raise ExportIdentityInvalid(
            "a node's name is misspelled", found=ascii(name)[:80], wanted="small letters, digits, hyphens"
        )
    node, key, tag_key = entropy[:8], entropy[8:40], entropy[40:72]
    if len(tag_key) != TAG_KEY_BYTES:
        raise ValueError("an identity needs 72 random bytes")
    return Identity(name, node, Ed25519PrivateKey.from_private_bytes(key), tag_key)


def parse_identity(data: bytes) -> Identity:
    """Read a node's secret file.

    Raises:
        ExportIdentityInvalid: anything but what ``Identity.data`` gives.
    """
    top = _top(data, IDENTITY, "private")
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(top.text("private", _KEY)))
    node, tag_key = bytes.fromhex(top.text("node", _NODE)), bytes.fromhex(top.text("tag", _KEY))
    return Identity(top.text("name", _NAME), node, key, tag_key)


def parse_sender(data: bytes) -> Sender:
    """Read the file of a node as a receiver has it.

    Raises:
        ExportIdentityInvalid: anything but what ``Sender.data`` gives, or a weak key.
    """
    top = _top(data, SENDER, "public")
    try:
        key = parse_public(top.text("public"))
    except KeyRefused as fault:
        raise ExportIdentityInvalid(
            f"sender {top.text('name', _NAME)}: {fault.message}", found=fault.found, wanted=_ALGORITHM
        ) from fault
    if key.algorithm != _ALGORITHM or not isinstance(key.material, Ed25519PublicKey):
        top.refuse("a key of another kind", found=key.algorithm, wanted=_ALGORITHM)
    node, tag_key = bytes.fromhex(top.text("node", _NODE)), bytes.fromhex(top.text("tag", _KEY))
    return Sender(top.text("name", _NAME), node, key.material, tag_key)


def _top(data: bytes, kind: str, key: str) -> Record:
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise ExportIdentityInvalid(
            "the file is not canonical JSON", found=str(fault), hint="make it with: appliance export init"
        ) from fault
    top = Record(value, "export", ExportIdentityInvalid, hint="make it with: appliance export init")
    top.exactly(frozenset({"format", "type", "name", "node", key, "tag"}))
    if top.number("format") != 1 or top.text("type") != kind:
        top.refuse("a file of another kind", found=top.text("type"), wanted=kind)
    return top
