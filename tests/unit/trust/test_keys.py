"""Keys that prove nothing are refused, however well they are wrapped."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import KeyRefused
from appliance.trust import edwards
from appliance.trust.keys import encode_blob, parse_blob, parse_public, parse_public_file
from tests.independent import edwards as reference

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Holders

P = 2**255 - 19
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
ORDER_8_TOO = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"

#: Every encoding of a point of small order, canonical or not (y, sign bit): order 1, 2, 4, 8.
SMALL_ORDER = {
    "identity": (1).to_bytes(32, "little"),
    "identity, sign": (1 | 1 << 255).to_bytes(32, "little"),
    "identity, y+p": (P + 1).to_bytes(32, "little"),
    "identity, y+p, sign": (P + 1 | 1 << 255).to_bytes(32, "little"),
    "order 2": (P - 1).to_bytes(32, "little"),
    "order 2, sign": (P - 1 | 1 << 255).to_bytes(32, "little"),
    "order 4": (0).to_bytes(32, "little"),
    "order 4, sign": (1 << 255).to_bytes(32, "little"),
    "order 4, y+p": P.to_bytes(32, "little"),
    "order 4, y+p, sign": (P | 1 << 255).to_bytes(32, "little"),
    "order 8": bytes.fromhex(ORDER_8),
    "order 8, sign": bytes.fromhex(ORDER_8[:-2] + "85"),
    "order 8 too": bytes.fromhex(ORDER_8_TOO),
    "order 8 too, sign": bytes.fromhex(ORDER_8_TOO[:-2] + "fa"),
}


def fresh_point() -> bytes:
    return Ed25519PrivateKey.generate().public_key().public_bytes_raw()


def ed25519(point: bytes) -> bytes:
    return encode_blob("ssh-ed25519", point)


def test_keys_of_ssh_keygen_are_read(holders: Holders) -> None:
    for name in ("alice", "bob", "carol"):
        key = parse_public_file(holders.public(name))
        listed = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(holders.key(name))], capture_output=True, text=True, check=True
        )
        assert key.fingerprint == listed.stdout.split()[1]
        assert holders.public(name).startswith(key.text + " ")
        assert parse_public(key.text) == key


def test_the_identity_is_the_digest_openssl_gives(holders: Holders, tmp_path: Path) -> None:
    """The key's identity can be computed by hand from its SubjectPublicKeyInfo."""
    pem = tmp_path / "bob.pem"
    export = ["ssh-keygen", "-e", "-m", "PKCS8", "-f", str(holders.key("bob"))]
    pem.write_bytes(subprocess.run(export, capture_output=True, check=True).stdout)
    convert = ["openssl", "pkey", "-pubin", "-in", str(pem), "-outform", "DER"]
    der = subprocess.run(convert, capture_output=True, check=True).stdout
    assert parse_public_file(holders.public("bob")).keyid == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize("point", SMALL_ORDER.values(), ids=SMALL_ORDER)
def test_points_of_small_order_are_refused(point: bytes) -> None:
    with pytest.raises(KeyRefused, match="weak"):
        parse_blob(ed25519(point))


def test_under_a_weak_key_a_forgery_would_verify() -> None:
    """Why the rule is there: no secret was used to make this signature."""
    identity = SMALL_ORDER["identity"]
    forged = identity + bytes(32)
    Ed25519PublicKey.from_public_bytes(identity).verify(forged, b"anything")  # does not raise


def test_a_good_point_plus_a_small_one_is_refused() -> None:
    encoded = int.from_bytes(fresh_point(), "little")
    y, sign = encoded & ((1 << 255) - 1), encoded >> 255
    mixed = (P - y | (1 - sign) << 255).to_bytes(32, "little")  # plus the point of order 2
    assert not edwards.is_sound(mixed)
    with pytest.raises(KeyRefused, match="weak"):
        parse_blob(ed25519(mixed))


@pytest.mark.parametrize("y", range(19))
def test_a_coordinate_is_below_the_prime(y: int) -> None:
    """Nineteen values have a second spelling that fits 255 bits."""
    for sign in (0, 1 << 255):
        second = (y + P | sign).to_bytes(32, "little")
        assert not edwards.is_sound(second)
        assert not reference.is_sound(second)


@pytest.mark.parametrize("name", [name for name, each in SMALL_ORDER.items() if reference.decode(each)])
def test_a_good_point_plus_any_small_one_is_refused(name: str) -> None:
    """Libsodium up to 1.0.20 took one of these sums for good (CVE-2025-69277)."""
    good, small = reference.decode(fresh_point()), reference.decode(SMALL_ORDER[name])
    assert good is not None
    assert small is not None
    mixed = reference.encode(reference.add(good, small))
    assert edwards.is_sound(mixed) == reference.is_sound(mixed) == (name == "identity")
    if name != "identity":
        with pytest.raises(KeyRefused, match="weak"):
            parse_blob(ed25519(mixed))


@given(st.binary(min_size=32, max_size=32))
@settings(max_examples=60)
def test_the_library_judges_as_the_standard_does(encoded: bytes) -> None:
    assert edwards.is_sound(encoded) == reference.is_sound(encoded)


def test_a_library_with_a_known_flaw_is_not_used() -> None:
    """Asked once, when the module is loaded, about the point that such a library takes for good."""
    assert reference.decode(edwards._MIXED_ORDER) is not None
    assert not reference.is_sound(edwards._MIXED_ORDER)
    program = """
import nacl.bindings
nacl.bindings.crypto_core_ed25519_is_valid_point = lambda encoded: True
import appliance.trust.edwards
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "takes weak keys for good ones" in done.stderr


def test_bytes_that_are_no_point_are_refused() -> None:
    assert not edwards.is_sound((2).to_bytes(32, "little"))
    assert not edwards.is_sound(fresh_point()[:31])
    assert edwards.is_sound(fresh_point())


def _generated(tmp_path: Path, *kind: str) -> str:
    subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-f", str(tmp_path / "key")], check=True)
    return (tmp_path / "key.pub").read_text()


@pytest.mark.parametrize(
    "kind", [("-t", "rsa", "-b", "1024"), ("-t", "rsa", "-b", "4096"), ("-t", "ecdsa", "-b", "521")]
)
def test_other_kinds_are_refused(kind: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match="kind"):
        parse_public_file(_generated(tmp_path, *kind))


def test_a_certificate_is_refused(holders: Holders, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(holders.public("alice"))
    command = ["ssh-keygen", "-q", "-s", str(holders.key("mallory")), "-I", "x", str(tmp_path / "key.pub")]
    subprocess.run(command, check=True)
    with pytest.raises(KeyRefused, match="kind"):
        parse_public_file((tmp_path / "key-cert.pub").read_text())


def _ecdsa(curve: str, point: bytes, kind: str | None = None) -> bytes:
    return encode_blob(kind or f"ecdsa-sha2-{curve}", curve.encode(), point)


HOSTILE_BLOBS = {
    "empty": b"",
    "truncated length": b"\0\0\0",
    "length beyond the end": b"\xff\xff\xff\xff" + b"ssh-ed25519",
    "no fields": encode_blob("ssh-ed25519"),
    "short point": ed25519(bytes(31)),
    "trailing bytes": ed25519(fresh_point()) + b"\0",
    "another field": encode_blob("ssh-ed25519", fresh_point(), b"x"),
    "token key without application": encode_blob("sk-ssh-ed25519@openssh.com", fresh_point()),
    "token key for a web site": encode_blob(
        "sk-ssh-ed25519@openssh.com", fresh_point(), b"https://example.org"
    ),
    "unknown kind": encode_blob("ssh-ed448", bytes(57)),
    "DSA": encode_blob("ssh-dss", b"\1", b"\1", b"\1", b"\1"),
    "kind in another case": encode_blob("SSH-ED25519", fresh_point()),
    "escape sequence as kind": encode_blob("ssh\x1b[2J", fresh_point()),
    "curve of another kind": _ecdsa("nistp256", b"\4" + bytes(64), "ecdsa-sha2-nistp384"),
    "infinity": _ecdsa("nistp256", b"\0"),
    "not on the curve": _ecdsa("nistp256", b"\4" + bytes(63) + b"\1"),
    "coordinates too large": _ecdsa("nistp384", b"\4" + b"\xff" * 96),
    "compressed point": _ecdsa(
        "nistp256", bytes.fromhex("036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
    ),
    "hybrid point": _ecdsa(
        "nistp256",
        bytes.fromhex(
            "076b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
        ),
    ),
}


@pytest.mark.parametrize("blob", HOSTILE_BLOBS.values(), ids=HOSTILE_BLOBS)
def test_malformed_keys_are_refused(blob: bytes) -> None:
    with pytest.raises(KeyRefused) as caught:
        parse_blob(blob)
    assert "\x1b" not in f"{caught.value.message}{caught.value.found}"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_key_or_refused(blob: bytes) -> None:
    with pytest.raises(KeyRefused):
        parse_blob(blob)


def test_one_key_has_one_spelling(holders: Holders) -> None:
    text = parse_public_file(holders.public("alice")).text
    kind, encoded = text.split(" ")
    padded = base64.b64encode(base64.b64decode(encoded) + b"").decode()
    for other in (
        f"{text} ",
        f" {text}",
        f"{text}\n",
        f"{text} comment",
        f"{kind}  {encoded}",
        f"{kind}\t{encoded}",
        f"{kind} {encoded}=",
        f"{kind} {encoded[:20]}\n{encoded[20:]}",
        f"ecdsa-sha2-nistp256 {padded}",
        f"{kind} {encoded[:-1]}é",
        "",
        "x" * 5000,
    ):
        with pytest.raises(KeyRefused):
            parse_public(other)


def test_a_pub_file_is_one_line(holders: Holders) -> None:
    text = holders.public("alice")
    assert parse_public_file(text.rstrip("\n") + "\r\n").text in text
    for other in ("", "\n", text + text, 'from="10.0.0.1" ' + text, text + "\n"):
        with pytest.raises(KeyRefused):
            parse_public_file(other)
    with pytest.raises(KeyRefused, match="private"):
        parse_public_file(holders.key("alice").read_text())
