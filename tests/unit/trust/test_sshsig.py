"""Signatures: agreement with the real ssh-keygen on good ones, our stricter side on the others."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BundleUntrusted, KeyRefused, SignatureInvalid
from appliance.trust.keys import encode_blob, parse_blob
from appliance.trust.sshsig import armour, parse_signature, verify_signature
from appliance.trust.wire import mpint, string

if TYPE_CHECKING:
    from collections.abc import Callable

SPACE = "release@appliance"
MESSAGE = b"the list\n"
BEGIN, END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"


def check(armoured: bytes, message: bytes = MESSAGE, space: str = SPACE) -> None:
    verify_signature(parse_signature(armoured), message, space)


def unarmour(armoured: bytes) -> bytes:
    return base64.b64decode(b"".join(armoured.splitlines()[1:-1]))


def signed_bytes(space: bytes = b"release@appliance", hash_name: bytes = b"sha512") -> bytes:
    digest = hashlib.new(hash_name.decode(), MESSAGE).digest()
    return b"SSHSIG" + b"".join(map(string, (space, b"", hash_name, digest)))


def envelope(  # noqa: PLR0917 - the fields of the format, in order
    public: bytes,
    value: bytes,
    space: bytes = b"release@appliance",
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    head: bytes = b"SSHSIG\0\0\0\1",
) -> bytes:
    return armour(head + b"".join(map(string, (public, space, reserved, hash_name, value))))


KEY = ed25519.Ed25519PrivateKey.generate()
PUBLIC = encode_blob("ssh-ed25519", KEY.public_key().public_bytes_raw())
VALUE = encode_blob("ssh-ed25519", KEY.sign(signed_bytes()))
CURVE_KEY = ec.generate_private_key(ec.SECP256R1())
CURVE_PUBLIC = encode_blob(
    "ecdsa-sha2-nistp256",
    b"nistp256",
    b"\4"
    + CURVE_KEY.public_key().public_numbers().x.to_bytes(32, "big")
    + CURVE_KEY.public_key().public_numbers().y.to_bytes(32, "big"),
)
R, S = decode_dss_signature(CURVE_KEY.sign(signed_bytes(), ec.ECDSA(hashes.SHA256())))


def curve_value(r: bytes, s: bytes, more: bytes = b"") -> bytes:
    return encode_blob("ecdsa-sha2-nistp256", string(r) + string(s) + more)


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_signatures_of_ssh_keygen_verify(name: str, hash_name: str, ssh_sign: Callable[..., bytes]) -> None:
    armoured = ssh_sign(name, hash_name=hash_name)
    check(armoured)
    with pytest.raises(SignatureInvalid, match="does not verify"):
        check(armoured, MESSAGE + b"x")
    with pytest.raises(SignatureInvalid, match="another role"):
        check(armoured, space="patch@appliance")


def test_the_pieces_of_this_file_make_good_signatures(ssh_accepts: Callable[..., bool]) -> None:
    """Otherwise every refusal below could have another reason than the one it is named for."""
    for public, value in ((PUBLIC, VALUE), (CURVE_PUBLIC, curve_value(mpint(R), mpint(S)))):
        check(envelope(public, value))
        assert ssh_accepts(parse_blob(public).text, envelope(public, value))


@pytest.mark.parametrize("name", ["alice", "bob"])
def test_every_flipped_byte_is_noticed(name: str, ssh_sign: Callable[..., bytes]) -> None:
    good = ssh_sign(name)
    for position in range(len(good)):
        bad = good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :]
        with pytest.raises(BundleUntrusted):
            check(bad)


def test_every_truncation_is_noticed(ssh_sign: Callable[..., bytes]) -> None:
    good = ssh_sign("alice")
    for length in range(len(good)):
        with pytest.raises(SignatureInvalid):
            check(good[:length])
    blob = unarmour(good)
    for length in range(len(blob)):
        with pytest.raises((SignatureInvalid, KeyRefused)):
            check(armour(blob[:length]))


GOOD = envelope(PUBLIC, VALUE)
LINES = GOOD.splitlines(keepends=True)
ARMOURS = {
    "empty": b"",
    "text before": b"\n" + GOOD,
    "text after": GOOD + b"trailing text\n",
    "one more line feed": GOOD + b"\n",
    "no last line feed": GOOD[:-1],
    "carriage returns": GOOD.replace(b"\n", b"\r\n"),
    "other line length": BEGIN + b"".join(LINES[1:-1]).replace(b"\n", b"") + b"\n" + END,
    "blank line inside": LINES[0] + b"\n" + b"".join(LINES[1:]),
    "space in a line": GOOD.replace(LINES[1], b" " + LINES[1]),
    "indented": b" " + GOOD,
    "other label": GOOD.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
    "no end": b"".join(LINES[:-1]),
    "twice": GOOD + GOOD,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "padding dropped": GOOD.replace(b"=", b""),
    "foreign letter": GOOD.replace(LINES[1][:1], b"*", 1),
    "endless": BEGIN + b"A" * 20_000 + b"\n" + END,
    "UTF-16": GOOD.decode().encode("utf-16"),
}


@pytest.mark.parametrize("armoured", ARMOURS.values(), ids=ARMOURS)
def test_only_the_armour_of_openssh_is_read(armoured: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        check(armoured)


N = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
ENVELOPES = {
    "trailing byte": armour(unarmour(GOOD) + b"\0"),
    "other magic": envelope(PUBLIC, VALUE, head=b"SSHSIX\0\0\0\1"),
    "version 2": envelope(PUBLIC, VALUE, head=b"SSHSIG\0\0\0\2"),
    "reserved": envelope(PUBLIC, VALUE, reserved=b"x"),
    "empty namespace": envelope(PUBLIC, VALUE, space=b""),
    "other namespace": envelope(PUBLIC, VALUE, space=b"file"),
    "namespace with NUL": envelope(PUBLIC, VALUE, space=b"release@appliance\0"),
    "hash not used": envelope(PUBLIC, VALUE, hash_name=b"sha256"),
    "hash unknown": envelope(PUBLIC, VALUE, hash_name=b"sha1"),
    "hash in capitals": envelope(PUBLIC, VALUE, hash_name=b"SHA512"),
    "no signature": envelope(PUBLIC, b""),
    "trailing in signature": envelope(PUBLIC, VALUE + b"\0"),
    "other kind": envelope(PUBLIC, encode_blob("ssh-rsa", KEY.sign(signed_bytes()))),
    "token flags without token": envelope(PUBLIC, VALUE + b"\1\0\0\0\0"),
    "short": envelope(PUBLIC, encode_blob("ssh-ed25519", KEY.sign(signed_bytes())[:63])),
    "other key": envelope(PUBLIC, curve_value(mpint(R), mpint(S))),
    "zero r": envelope(CURVE_PUBLIC, curve_value(b"", mpint(S))),
    "zero s": envelope(CURVE_PUBLIC, curve_value(mpint(R), b"")),
    "padded r": envelope(CURVE_PUBLIC, curve_value(b"\0" + mpint(R), mpint(S))),
    "negative s": envelope(CURVE_PUBLIC, curve_value(mpint(R), b"\xff" + bytes(32))),
    "r + n": envelope(CURVE_PUBLIC, curve_value(mpint(R + N), mpint(S))),
    "s + n": envelope(CURVE_PUBLIC, curve_value(mpint(R), mpint(S + N))),
    "three numbers": envelope(CURVE_PUBLIC, curve_value(mpint(R), mpint(S), string(mpint(1)))),
    "DER instead": envelope(
        CURVE_PUBLIC,
        encode_blob("ecdsa-sha2-nistp256", CURVE_KEY.sign(signed_bytes(), ec.ECDSA(hashes.SHA256()))),
    ),
}


@pytest.mark.parametrize("armoured", ENVELOPES.values(), ids=ENVELOPES)
def test_malformed_signatures_are_refused(armoured: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        check(armoured)


def test_ed25519_is_not_malleable() -> None:
    raw = KEY.sign(signed_bytes())
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(raw[32:], "little") + order
    with pytest.raises(SignatureInvalid):
        check(envelope(PUBLIC, encode_blob("ssh-ed25519", raw[:32] + s.to_bytes(32, "little"))))


def test_a_weak_key_is_refused_before_its_signature_is_looked_at() -> None:
    identity = (1).to_bytes(32, "little")
    forged = envelope(
        encode_blob("ssh-ed25519", identity), encode_blob("ssh-ed25519", identity + bytes(32))
    )
    with pytest.raises(KeyRefused, match="weak"):
        check(forged)


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for armoured in (data, armour(data), armour(b"SSHSIG\0\0\0\1" + data)):
        with pytest.raises((SignatureInvalid, KeyRefused)):
            check(armoured)


def token_signature(
    kind: str, flags: int, *, application: bytes = b"ssh:", signed_flags: int | None = None
) -> bytes:
    """What a hardware token makes (OpenSSH, PROTOCOL.u2f), with a key in memory."""
    stated = flags if signed_flags is None else signed_flags
    message = hashlib.sha256(application).digest() + bytes([stated]) + (5).to_bytes(4, "big")
    message += hashlib.sha256(signed_bytes()).digest()
    tail = bytes([flags]) + (5).to_bytes(4, "big")
    if kind == "sk-ssh-ed25519@openssh.com":
        public = encode_blob(kind, KEY.public_key().public_bytes_raw(), application)
        return envelope(public, encode_blob(kind, KEY.sign(message)) + tail)
    r, s = decode_dss_signature(CURVE_KEY.sign(message, ec.ECDSA(hashes.SHA256())))
    point = CURVE_PUBLIC[-65:]
    public = encode_blob(kind, b"nistp256", point, application)
    return envelope(public, encode_blob(kind, string(mpint(r)) + string(mpint(s))) + tail)


TOKENS = ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"]


@pytest.mark.parametrize("flags", [0x01, 0x05])
@pytest.mark.parametrize("kind", TOKENS)
def test_signatures_of_tokens_verify_here_and_in_openssh(
    kind: str, flags: int, ssh_accepts: Callable[..., bool]
) -> None:
    armoured = token_signature(kind, flags)
    check(armoured)
    assert ssh_accepts(parse_signature(armoured).key.text, armoured)
    with pytest.raises(SignatureInvalid, match="does not verify"):
        check(armoured, b"other")


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_that_was_not_touched_is_refused(kind: str) -> None:
    for flags in (0x00, 0x04, 0x41, 0x81):
        with pytest.raises(SignatureInvalid, match="touched"):
            check(token_signature(kind, flags))


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_s_flags_are_signed(kind: str) -> None:
    with pytest.raises(SignatureInvalid, match="does not verify"):
        check(token_signature(kind, 0x05, signed_flags=0x01))


def test_the_same_key_on_and_off_a_token_is_one_identity() -> None:
    token = parse_signature(token_signature(TOKENS[0], 1)).key
    assert token.keyid == parse_blob(PUBLIC).keyid
    assert token != parse_blob(PUBLIC)
