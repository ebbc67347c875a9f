"""Signatures by a key that lives on a FIDO token, and by somebody who has a copy of the bare key."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.errors import BundleUntrusted, SignatureInvalid, SignerUnknown
from appliance.progress import Silent
from appliance.trust.chain import Link
from appliance.trust.founding import Enrolment, compose
from appliance.trust.keys import encode_blob, parse_blob, parse_public_file
from appliance.trust.root import parse_root, root_bytes
from appliance.trust.sshsig import armour, signed_data
from appliance.trust.wire import string
from tests.independent.agreement import follow, verify_bundle
from tests.roots import first_root
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.group(8)

_KIND = "sk-ssh-ed25519@openssh.com"
_TOUCHED, _VERIFIED, _BACKED_UP = 0x01, 0x04, 0x10


class Token:
    """What a FIDO token does with the key in it (OpenSSH, PROTOCOL.u2f), and what its thief would do."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._point = self._key.public_key().public_bytes_raw()
        self.public = parse_blob(encode_blob(_KIND, self._point, b"ssh:"))

    def sign(self, message: bytes, *, flags: int = _TOUCHED, stated: int | None = None) -> bytes:
        """Signed with these flags; ``stated`` are those the signature says it has."""
        counter = (7).to_bytes(4, "big")
        digest = hashlib.sha256(signed_data(message, "release@appliance")).digest()
        made = self._key.sign(hashlib.sha256(b"ssh:").digest() + bytes([flags]) + counter + digest)
        tail = bytes([flags if stated is None else stated]) + counter
        return self._file(self.public.blob, encode_blob(_KIND, made) + tail)

    def sign_off_token(self, message: bytes) -> bytes:
        """A sound signature by the same key, which no token was asked for."""
        made = self._key.sign(signed_data(message, "release@appliance"))
        return self._file(encode_blob("ssh-ed25519", self._point), encode_blob("ssh-ed25519", made))

    @staticmethod
    def _file(blob: bytes, value: bytes) -> bytes:
        parts = (blob, b"release@appliance", b"", b"sha512", value)
        return armour(b"SSHSIG\0\0\0\1" + b"".join(map(string, parts)))


@pytest.fixture
def token() -> Token:
    return Token()


@pytest.fixture
def token_root(token: Token, holders: Holders) -> bytes:
    """alice, and dave whose key is on a token: both must sign."""
    keys = {"alice": parse_public_file(holders.public("alice")), "dave": token.public}
    return root_bytes(first_root(keys))


@pytest.fixture
def half_signed(maker: BundleMaker, token_root: bytes) -> Path:
    """A bundle that alice alone has signed."""
    return maker.sign(maker.write("half", parse_root(token_root)), "alice")


def put(bundle: Path, signature: bytes) -> None:
    (bundle / "trust/SHA256SUMS.dave.sig").write_bytes(signature)


def listing(bundle: Path) -> bytes:
    return (bundle / "trust/SHA256SUMS").read_bytes()


@pytest.mark.parametrize("flags", [_TOUCHED, _TOUCHED | _VERIFIED])
@pytest.mark.control
def test_the_control(half_signed: Path, token: Token, token_root: bytes, flags: int) -> None:
    put(half_signed, token.sign(listing(half_signed), flags=flags))
    assert len(verify_bundle(half_signed, token_root, progress=Silent()).signers) == 2


@pytest.mark.parametrize("flags", [0, _VERIFIED, _TOUCHED | _BACKED_UP, _TOUCHED | 0x80])
def test_other_flags_than_touched(half_signed: Path, token: Token, token_root: bytes, flags: int) -> None:
    put(half_signed, token.sign(listing(half_signed), flags=flags))
    with pytest.raises(SignatureInvalid, match="not touched"):
        verify_bundle(half_signed, token_root, progress=Silent())


def test_a_touch_that_is_only_stated(half_signed: Path, token: Token, token_root: bytes) -> None:
    put(half_signed, token.sign(listing(half_signed), flags=0, stated=_TOUCHED))
    with pytest.raises(SignatureInvalid, match="does not verify"):
        verify_bundle(half_signed, token_root, progress=Silent())


def test_the_key_without_its_token(half_signed: Path, token: Token, token_root: bytes) -> None:
    put(half_signed, token.sign_off_token(listing(half_signed)))
    with pytest.raises(SignerUnknown, match="does not enrol this key"):
        verify_bundle(half_signed, token_root, progress=Silent())


def test_another_s_token(half_signed: Path, token_root: bytes) -> None:
    put(half_signed, Token().sign(listing(half_signed)))
    with pytest.raises(BundleUntrusted):
        verify_bundle(half_signed, token_root, progress=Silent())


@pytest.mark.group(10)
def test_a_root_that_puts_a_key_on_its_token_signed_off_it() -> None:
    """The root before has the bare key; by which of the two it is, the later root says."""
    alice, bob = Person("alice"), Person("bob")
    on_token = parse_blob(encode_blob(_KIND, alice.key.blob[-32:], b"ssh:"))
    assert on_token.keyid == alice.key.keyid
    one = compose([*alice.enrolled(), *bob.enrolled()])
    two = compose([Enrolment("alice", on_token, ("root", "release")), *bob.enrolled()], version=2)
    data = root_bytes(two)
    with pytest.raises(SignerUnknown):
        follow(root_bytes(one), {2: Link(data, signed(data, "root", alice, bob))})
