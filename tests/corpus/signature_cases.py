"""SSH signatures that must not count, made by code, each with the error it ends in.

One table for two tests: that the program refuses them, and that stock OpenSSH refuses them too, or is known
to be less strict.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.errors import KeyRefused, SignatureInvalid, SignerUnknown
from appliance.trust.keys import encode_blob
from appliance.trust.sshsig import armour, signed_data
from appliance.trust.wire import mpint, string
from tests.independent import edwards

if TYPE_CHECKING:
    from appliance.errors import BundleUntrusted

MESSAGE: Final = b"the list\n"
SPACE: Final = "release@appliance"
BEGIN, END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
HEAD: Final = b"SSHSIG\0\0\0\1"
ED, P256, P384 = "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384"
SK_ED = "sk-ssh-ed25519@openssh.com"
#: The orders of the groups of P-256 and P-384.
ORDERS: Final = {
    P256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    P384: int("f" * 48 + "c7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16),
}


@dataclass(frozen=True)
class SignatureCase:
    """A signature over ``MESSAGE``, the key that is enrolled for its holder, and the error expected.

    ``expected`` is None for a control.
    """

    public: str
    armoured: bytes
    expected: type[BundleUntrusted] | None = SignatureInvalid


def pub(blob: bytes) -> str:
    kind = blob[4 : 4 + int.from_bytes(blob[:4], "big")].decode()
    return f"{kind} {base64.b64encode(blob).decode()}"


def envelope(
    blob: bytes,
    value: bytes,
    *,
    space: bytes = SPACE.encode(),
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
    head: bytes = HEAD,
) -> bytes:
    return armour(head + b"".join(map(string, (blob, space, reserved, hash_name, value))))


@dataclass(frozen=True)
class Ed25519Signer:
    """An Ed25519 key."""

    secret: ed25519.Ed25519PrivateKey

    @property
    def point(self) -> bytes:
        return self.secret.public_key().public_bytes_raw()

    @property
    def blob(self) -> bytes:
        return encode_blob(ED, self.point)

    def raw(self, data: bytes | None = None) -> bytes:
        return self.secret.sign(signed_data(MESSAGE, SPACE) if data is None else data)


@dataclass(frozen=True)
class EcdsaSigner:
    """An ECDSA key."""

    secret: ec.EllipticCurvePrivateKey
    kind: str

    @property
    def curve(self) -> bytes:
        return self.kind.removeprefix("ecdsa-sha2-").encode()

    @property
    def point(self) -> bytes:
        return self.secret.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    @property
    def blob(self) -> bytes:
        return encode_blob(self.kind, self.curve, self.point)

    def numbers(
        self, data: bytes | None = None, digest: hashes.HashAlgorithm | None = None
    ) -> tuple[int, int]:
        usual = hashes.SHA384() if self.kind == P384 else hashes.SHA256()
        message = signed_data(MESSAGE, SPACE) if data is None else data
        return decode_dss_signature(self.secret.sign(message, ec.ECDSA(digest or usual)))

    def value(self, r: bytes, s: bytes, more: bytes = b"") -> bytes:
        return encode_blob(self.kind, string(r) + string(s) + more)


@cache
def signature_cases() -> dict[str, SignatureCase]:
    """All of them, by name."""
    found: dict[str, SignatureCase] = {}
    parts = (_controls, _armours, _envelopes, _curves, _edwards, _weak_keys, _kinds, _tokens, _strangers)
    for part in parts:
        for name, case in part().items():
            assert name not in found, name
            found[name] = case
    return found


@cache
def alice() -> Ed25519Signer:
    return Ed25519Signer(ed25519.Ed25519PrivateKey.generate())


@cache
def bob(kind: str) -> EcdsaSigner:
    return EcdsaSigner(ec.generate_private_key(ec.SECP384R1() if kind == P384 else ec.SECP256R1()), kind)


def good() -> bytes:
    return envelope(alice().blob, encode_blob(ED, alice().raw()))


def _of_alice(armoured: bytes) -> SignatureCase:
    return SignatureCase(pub(alice().blob), armoured)


def _controls() -> dict[str, SignatureCase]:
    found = {"control: ed25519": SignatureCase(pub(alice().blob), good(), None)}
    data = signed_data(MESSAGE, SPACE, "sha256")
    armoured = envelope(alice().blob, encode_blob(ED, alice().raw(data)), hash_name=b"sha256")
    found["control: ed25519, sha256"] = SignatureCase(pub(alice().blob), armoured, None)
    for kind in (P256, P384):
        r, s = bob(kind).numbers()
        for name, number in (("", s), (", n - s", ORDERS[kind] - s)):  # malleable, as everywhere
            armoured = envelope(bob(kind).blob, bob(kind).value(mpint(r), mpint(number)))
            found[f"control: {kind}{name}"] = SignatureCase(pub(bob(kind).blob), armoured, None)
    return found


def _armours() -> dict[str, SignatureCase]:
    whole = good()
    lines = whole.splitlines(keepends=True)
    blob = base64.b64decode(b"".join(lines[1:-1]))
    body = b"".join(lines[1:-1])
    raw = {
        "empty": b"",
        "line feed before": b"\n" + whole,
        "text before": b"Good signature\n" + whole,
        "text after": whole + b"Good signature for everybody\n",
        "line feed after": whole + b"\n",
        "NUL after": whole + b"\0",
        "no last line feed": whole[:-1],
        "carriage returns": whole.replace(b"\n", b"\r\n"),
        "one line": BEGIN + body.replace(b"\n", b"") + b"\n" + END,
        "lines of 64": BEGIN + base64.encodebytes(blob) + END,
        "blank line": lines[0] + b"\n" + b"".join(lines[1:]),
        "space in a line": whole.replace(lines[1], b" " + lines[1]),
        "tab at a line's end": whole.replace(lines[1], lines[1][:-1] + b"\t\n"),
        "indented": b" " + whole,
        "a header": whole.replace(BEGIN, BEGIN + b"Comment: verified\n\n"),
        "another label": whole.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
        "small letters": whole.replace(b"BEGIN SSH", b"begin ssh"),
        "five dashes missing": whole.replace(b"-----END", b"END"),
        "no end": b"".join(lines[:-1]),
        "no beginning": b"".join(lines[1:]),
        "twice": whole + whole,
        "byte order mark": b"\xef\xbb\xbf" + whole,
        "UTF-16": whole.decode().encode("utf-16"),
        "padding dropped": whole.replace(b"=", b""),
        "padding added": whole.replace(b"\n" + END, b"=\n" + END),
        "foreign letter": whole.replace(lines[1][:1], b"*", 1),
        "base64 for addresses": BEGIN + body.replace(b"A", b"-") + END,
        "loose bits": armour(blob[:-1]).replace(b"\n" + END, b"\n" + END)[: -len(END) - 1] + b"\n" + END,
        "not armoured": blob,
        "endless": BEGIN + b"A" * 20_000 + b"\n" + END,
        "trailing byte": armour(blob + b"\0"),
        "trailing signature": armour(blob + blob),
        "a byte short": armour(blob[:-1]),
        "half": armour(blob[: len(blob) // 2]),
    }
    return {f"armour: {name}": _of_alice(each) for name, each in raw.items() if each != whole}


def _envelopes() -> dict[str, SignatureCase]:
    blob, value = alice().blob, encode_blob(ED, alice().raw())

    def resigned(space: bytes, hash_name: bytes = b"sha512") -> bytes:
        """Well signed, for another purpose."""
        digest = hashlib.new(hash_name.decode(), MESSAGE).digest()
        data = b"SSHSIG" + b"".join(map(string, (space, b"", hash_name, digest)))
        return envelope(blob, encode_blob(ED, alice().raw(data)), space=space, hash_name=hash_name)

    raw = {
        "another magic": envelope(blob, value, head=b"SSHSIX\0\0\0\1"),
        "version 0": envelope(blob, value, head=b"SSHSIG\0\0\0\0"),
        "version 2": envelope(blob, value, head=b"SSHSIG\0\0\0\2"),
        "version 257": envelope(blob, value, head=b"SSHSIG\0\0\1\1"),
        "reserved": envelope(blob, value, reserved=b"x"),
        "reserved, long": envelope(blob, value, reserved=bytes(9000)),
        "no namespace": resigned(b""),
        "namespace file": resigned(b"file"),
        "namespace git": resigned(b"git"),
        "namespace of another role": resigned(b"root@appliance"),
        "namespace stated otherwise": envelope(blob, value, space=b"root@appliance"),
        "namespace in capitals": resigned(b"Release@appliance"),
        "namespace longer": resigned(b"release@appliance2"),
        "namespace with NUL": resigned(b"release@appliance\0"),
        "namespace with space": resigned(b"release@appliance "),
        "namespaces in a list": resigned(b"release@appliance,root@appliance"),
        "namespace not signed": envelope(
            blob, encode_blob(ED, alice().raw(signed_data(MESSAGE, "root@appliance")))
        ),
        "hash sha1": resigned(SPACE.encode(), b"sha1"),
        "hash md5": resigned(SPACE.encode(), b"md5"),
        "hash sha384": resigned(SPACE.encode(), b"sha384"),
        "hash in capitals": envelope(blob, value, hash_name=b"SHA512"),
        "hash of another name": envelope(blob, value, hash_name=b"sha256"),
        "no hash": envelope(blob, value, hash_name=b""),
        "no signature": envelope(blob, b""),
        "trailing in the signature": envelope(blob, value + b"\0"),
        "of kind ssh-rsa": envelope(blob, encode_blob("ssh-rsa", alice().raw())),
        "of kind sk-ed25519": envelope(blob, encode_blob(SK_ED, alice().raw())),
        "flags of a token": envelope(blob, value + b"\1\0\0\0\0"),
        "over another message": envelope(
            blob, encode_blob(ED, alice().raw(signed_data(MESSAGE + b"x", SPACE)))
        ),
        "over the bare message": envelope(blob, encode_blob(ED, alice().raw(MESSAGE))),
        "over the bare digest": envelope(
            blob, encode_blob(ED, alice().raw(hashlib.sha512(MESSAGE).digest()))
        ),
        "over the message of a login": envelope(
            blob, encode_blob(ED, alice().raw(string(bytes(32)) + b"\x32" + MESSAGE))
        ),
        "one of ECDSA": envelope(blob, bob(P256).value(*map(mpint, bob(P256).numbers()))),
    }
    return {f"envelope: {name}": _of_alice(each) for name, each in raw.items()}


def _curves() -> dict[str, SignatureCase]:
    """The classes of edge cases of ECDSA: r and s are numbers from 1 to n - 1, in their shortest form."""
    found = {}
    for kind in (P256, P384):
        key, n = bob(kind), ORDERS[kind]
        r, s = map(mpint, key.numbers())
        size = (n.bit_length() + 7) // 8
        number = int.from_bytes(s, "big")
        other = hashes.SHA256() if kind == P384 else hashes.SHA384()
        values = {
            "r is 0": (b"", s),
            "s is 0": (r, b""),
            "r is a zero byte": (b"\0", s),
            "both are 0": (b"", b""),
            "r is 1, s is 0": (b"\1", b""),
            "r is n": (mpint(n), s),
            "s is n": (r, mpint(n)),
            "r is n + 1": (mpint(n + 1), s),
            "s is n + 1": (r, mpint(n + 1)),
            "r + n": (mpint(int.from_bytes(r, "big") + n), s),
            "s + n": (r, mpint(number + n)),
            "s is -s": (r, (2 ** (8 * size + 8) - number).to_bytes(size + 1, "big")),
            "s is n - 1, r is n - 1": (mpint(n - 1), mpint(n - 1)),
            "r is huge": (b"\1" + bytes(4000), s),
            "r padded": (b"\0" + r, s),
            "s padded": (r, b"\0\0" + s),
            "exchanged": (s, r),
            "of fixed length": (r.lstrip(b"\0").rjust(size + 2, b"\0"), s),
        }
        for name, (one, two) in values.items():
            found[f"{kind}: {name}"] = envelope(key.blob, key.value(one, two))
        found[f"{kind}: three numbers"] = envelope(key.blob, key.value(r, s, string(b"\1")))
        found[f"{kind}: DER"] = envelope(key.blob, encode_blob(kind, key.secret.sign(
            signed_data(MESSAGE, SPACE), ec.ECDSA(hashes.SHA256()))))  # fmt: skip
        found[f"{kind}: raw r and s"] = envelope(
            key.blob, encode_blob(kind, r.rjust(size, b"\0") + s.rjust(size, b"\0"))
        )
        found[f"{kind}: another curve's hash"] = envelope(
            key.blob, key.value(*map(mpint, key.numbers(digest=other)))
        )
        found[f"{kind}: of the other kind"] = envelope(
            key.blob, encode_blob(P384 if kind == P256 else P256, string(r) + string(s))
        )
    return {
        name: SignatureCase(pub(bob(P384 if name.startswith(P384) else P256).blob), each)
        for name, each in found.items()
    }


def small_points() -> list[bytes]:
    """The eight points of small order: multiples of one of order 8 (RFC 8032 names no such thing)."""
    eight = edwards.decode(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    )
    assert eight is not None
    return [edwards.encode(edwards.times(number, eight)) for number in range(8)]


def edwards_values(raw: bytes, signed: bytes) -> dict[str, bytes]:
    """The classes of edge cases of Ed25519: S below L, R an honest encoding, nothing else of 64 bytes."""
    r, s = raw[:32], int.from_bytes(raw[32:], "little")
    values = {
        "S + L": r + (s + edwards.ORDER).to_bytes(32, "little"),
        "S is L": r + edwards.ORDER.to_bytes(32, "little"),
        "S is 0": r + bytes(32),
        "S is L - 1": r + (edwards.ORDER - 1).to_bytes(32, "little"),
        "S with high bits": r + (s | 7 << 253).to_bytes(32, "little"),
        "S all ones": r + b"\xff" * 32,
        "R with another sign": r[:31] + bytes([r[31] ^ 0x80]) + raw[32:],
        "R no point": (2).to_bytes(32, "little") + raw[32:],
        "R above p": (edwards.P + 1).to_bytes(32, "little") + raw[32:],
        "a byte short": raw[:-1],
        "a byte more": raw + b"\0",
        "empty": b"",
        "R alone": raw[:32],
        "exchanged": raw[32:] + raw[:32],
        "of zeros": bytes(64),
        "for Ed25519ph": alice().raw(
            b"SigEd25519 no Ed25519 collisions\1\0" + hashlib.sha512(signed).digest()
        ),
    }
    for number, point in enumerate(small_points()):
        values[f"R of small order, {number}"] = point + raw[32:]
        mixed = edwards.add(*map(_decoded, (r, point)))
        if number:
            values[f"R plus a point of small order, {number}"] = edwards.encode(mixed) + raw[32:]
    return values


def _edwards() -> dict[str, SignatureCase]:
    values = edwards_values(alice().raw(), signed_data(MESSAGE, SPACE))
    return {
        f"ed25519: {name}": _of_alice(envelope(alice().blob, encode_blob(ED, value)))
        for name, value in values.items()
    }


def _decoded(encoded: bytes) -> edwards.Point:
    point = edwards.decode(encoded)
    assert point is not None
    return point


def _weak_keys() -> dict[str, SignatureCase]:
    """Keys under which anybody can sign: R is the identity, S is 0, and the key drops out."""
    points = {f"small order {number}": point for number, point in enumerate(small_points())}
    points |= {
        "identity, another sign": (1 | 1 << 255).to_bytes(32, "little"),
        "identity, above p": (edwards.P + 1).to_bytes(32, "little"),
        "order 4, above p": edwards.P.to_bytes(32, "little"),
        "no point": (2).to_bytes(32, "little"),
    }
    found = {}
    for name, point in points.items():
        for first in (1, edwards.P - 1):
            value = encode_blob(ED, first.to_bytes(32, "little") + bytes(32))
            blob = encode_blob(ED, point)
            forged = SignatureCase(pub(blob), envelope(blob, value), KeyRefused)
            found[f"weak key: {name}, R {'1' if first == 1 else '-1'}"] = forged
    return found


@cache
def _generated(*kind: str) -> tuple[str, bytes]:
    """Public key and signature of a kind that we do not have, by ssh-keygen."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        subprocess.run(["ssh-keygen", "-q", *kind, "-N", "", "-C", "", "-f", str(key)], check=True)
        sign = ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", SPACE]
        done = subprocess.run(sign, input=MESSAGE, stdout=subprocess.PIPE, check=True)
        return key.with_suffix(".pub").read_text().strip(), done.stdout


def _kinds() -> dict[str, SignatureCase]:
    found = {
        f"kind: {' '.join(kind)}": SignatureCase(*_generated(*kind), KeyRefused)
        for kind in (
            ("-t", "rsa", "-b", "1024"),
            ("-t", "rsa", "-b", "3072"),
            ("-t", "ecdsa", "-b", "521"),
        )
    }
    for kind in (P256, P384):
        key = bob(kind)
        x, y = key.point[1 : len(key.point) // 2 + 1], key.point[len(key.point) // 2 + 1 :]
        value = key.value(*map(mpint, key.numbers()))
        points = {
            "compressed": bytes([2 | y[-1] & 1]) + x,
            "hybrid": bytes([6 | y[-1] & 1]) + x + y,
            "infinity": b"\0",
            "off the curve": b"\4" + x + bytes([y[0] ^ 1]) + y[1:],
            "too large": b"\4" + b"\xff" * len(x + y),
            "shorter": b"\4" + x + y[:-1],
            "longer": b"\4" + x + y + b"\0",
        }
        for name, point in points.items():
            blob = encode_blob(kind, key.curve, point)
            found[f"key: {kind} {name}"] = SignatureCase(pub(blob), envelope(blob, value), KeyRefused)
        other = encode_blob(kind, b"nistp384" if kind == P256 else b"nistp256", key.point)
        found[f"key: {kind} of the other curve"] = SignatureCase(
            pub(other), envelope(other, value), KeyRefused
        )
    return found


def _tokens() -> dict[str, SignatureCase]:
    application, counter = b"ssh:", (7).to_bytes(4, "big")
    digest = hashlib.sha256(signed_data(MESSAGE, SPACE)).digest()

    def made(flags: int, stated: int | None = None, app: bytes = application) -> bytes:
        raw = alice().raw(hashlib.sha256(app).digest() + bytes([flags]) + counter + digest)
        tail = bytes([flags if stated is None else stated]) + counter
        return envelope(encode_blob(SK_ED, alice().point, app), encode_blob(SK_ED, raw) + tail)

    token = pub(encode_blob(SK_ED, alice().point, application))
    web = encode_blob(SK_ED, alice().point, b"https://example.org")
    return {
        "control: token": SignatureCase(token, made(1), None),
        "control: token, PIN": SignatureCase(token, made(5), None),
        "token: not touched": SignatureCase(token, made(0)),
        "token: not touched, PIN": SignatureCase(token, made(4)),
        "token: a flag more": SignatureCase(token, made(0x41)),
        "token: all flags": SignatureCase(token, made(0xFF)),
        "token: touch only stated": SignatureCase(token, made(0, 1)),
        "token: of a web site": SignatureCase(pub(web), made(1, app=b"https://example.org"), KeyRefused),
        "token: another application": SignatureCase(token, made(1, app=b"ssh:other"), SignerUnknown),
        "token: without it": SignatureCase(token, good(), SignerUnknown),
        "token: in the place of the bare key": SignatureCase(pub(alice().blob), made(1), SignerUnknown),
    }


def _strangers() -> dict[str, SignatureCase]:
    stranger = Ed25519Signer(ed25519.Ed25519PrivateKey.generate())
    theirs = envelope(stranger.blob, encode_blob(ED, stranger.raw()))
    return {
        "stranger: their own key": SignatureCase(pub(alice().blob), theirs, SignerUnknown),
        "stranger: alice's key, their signature": _of_alice(
            envelope(alice().blob, encode_blob(ED, stranger.raw()))
        ),
        "stranger: their key, alice's signature": _of_alice(
            envelope(stranger.blob, encode_blob(ED, alice().raw()))
        ),
        "stranger: another kind of key": SignatureCase(
            pub(alice().blob),
            envelope(bob(P256).blob, bob(P256).value(*map(mpint, bob(P256).numbers()))),
            SignerUnknown,
        ),
    }
