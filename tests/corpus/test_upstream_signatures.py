"""Signatures of models that must not be believed: each wrong one by its name.

A signature is the work of strangers, on a hub or on the way from it, until its own key says otherwise.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import datetime as dt
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from appliance.errors import KeyRefused, UpstreamSignatureInvalid
from appliance.trust import upstream, upstream_statement
from appliance.trust.upstream_certificates import parse_authority_pem
from appliance.trust.upstream_claim import Judged, judge, judge_again, origin_of
from appliance.trust.upstream_keys import parse_der, parse_pem
from tests.unit.trust.model_makers import Maker, digests, statement, whole

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.group(8)

FILES = {"config.json": b"{}", "part/one.safetensors": b"numbers"}
MAKER = Maker()
KEY = parse_pem(MAKER.pem)


def check(data: bytes, files: dict[str, bytes] = FILES) -> Judged:
    return judge(data, KEY, [*digests(files).items(), ("model.sig", "0" * 64)], "model.sig")


def refused(call: Callable[[], object], match: str) -> None:
    with pytest.raises(UpstreamSignatureInvalid) as caught:
        call()
    fault = caught.value
    assert re.search(match, fault.message), fault.message
    assert fault.exit_code == 4
    for text in (fault.message, fault.found, fault.wanted, fault.hint):
        assert text is None or (text.isprintable() and len(text) < 1000)


@pytest.mark.control
def test_the_control() -> None:
    judged = check(MAKER.sign(FILES))
    assert judged.signed_by == MAKER.fingerprint
    assert judged.coverage is not None
    assert judged.coverage.covered == 2


@pytest.mark.control
def test_ed25519_keys_too() -> None:
    maker = Maker(ed25519.Ed25519PrivateKey.generate())
    data = maker.sign(FILES)
    assert judge(data, parse_pem(maker.pem), digests(FILES).items(), "model.sig").signed_by
    other = parse_pem(Maker(ed25519.Ed25519PrivateKey.generate()).pem)
    bundle = json.loads(data)
    del bundle["verificationMaterial"]["publicKey"]["hint"]
    refused(lambda: judge(json.dumps(bundle).encode(), other, (), "model.sig"), "does not verify")


def test_a_changed_file() -> None:
    refused(
        lambda: check(MAKER.sign(FILES), {**FILES, "config.json": b"[]"}), "not the ones that the model's"
    )


def test_an_added_file() -> None:
    refused(lambda: check(MAKER.sign(FILES), {**FILES, "tokenizer.json": b""}), "did not sign")


def test_a_renamed_file() -> None:
    renamed = {"config.json": b"{}", "part/One.safetensors": b"numbers"}
    refused(lambda: check(MAKER.sign(FILES), renamed), "did not sign")


def test_exchanged_files() -> None:
    exchanged = {"config.json": b"numbers", "part/one.safetensors": b"{}"}
    refused(lambda: check(MAKER.sign(FILES), exchanged), "not the ones that the model's")


@pytest.mark.control
def test_a_missing_file_is_told() -> None:
    """Whether it may be missing is for the lock to judge."""
    judged = check(MAKER.sign(FILES), {"config.json": b"{}"})
    assert judged.coverage is not None
    assert judged.coverage.absent == ("part/one.safetensors",)


@pytest.mark.control
def test_what_is_signed_and_left_out_of_account_may_be_missing() -> None:
    judged = check(MAKER.sign({**FILES, "cache/x": b"x"}, ("cache",)))
    assert judged.coverage is not None
    assert judged.coverage.absent == ()


@pytest.mark.control
@pytest.mark.parametrize("name", [".git/hooks/post-checkout", ".gitattributes", "cache/x"])
def test_what_its_maker_left_out_of_account_is_named_and_never_passed_over(name: str) -> None:
    """model-signing accepts such files without a word."""
    judged = check(MAKER.sign(FILES, (".git", ".gitattributes", "cache")), {**FILES, name: b"x"})
    assert judged.coverage is not None
    assert judged.coverage.uncovered == (name,)


@pytest.mark.parametrize("name", [".gitattributes", "sub/.git/config", ".gitx", "model.sig.bak"])
def test_nothing_is_left_out_of_account_but_by_the_signature_itself(name: str) -> None:
    refused(lambda: check(MAKER.sign(FILES, (".git", "model.sig")), {**FILES, name: b"x"}), "did not sign")


def test_another_maker_s_signature() -> None:
    refused(lambda: check(Maker().sign(FILES)), "another key than the one that was named")


def test_another_maker_s_signature_under_the_right_key_s_name() -> None:
    bundle = Maker().bundle(statement(FILES))
    bundle["verificationMaterial"] = MAKER.bundle(b"")["verificationMaterial"]
    refused(lambda: check(json.dumps(bundle).encode()), "does not verify")


def _set(*path: Any) -> Callable[[Any], None]:
    """A change: the last of ``path`` at the place that the others name."""

    def change(values: Any) -> None:
        for part in path[:-2]:
            values = values[part]
        values[path[-2]] = path[-1]

    return change


def _twice(values: Any) -> None:
    values["dsseEnvelope"]["signatures"] *= 2


def _without(*path: Any) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for part in path[:-1]:
            values = values[part]
        del values[path[-1]]

    return change


ENVELOPES: dict[str, tuple[Callable[[Any], None], str]] = {
    "another payload type": (
        _set("dsseEnvelope", "payloadType", "text/plain"),
        "payload is of another type",
    ),
    "two signatures": (_twice, "not exactly one signature"),
    "no signature": (_set("dsseEnvelope", "signatures", []), "not exactly one signature"),
    "a keyid": (_set("dsseEnvelope", "signatures", 0, "keyid", "x"), "in a way of its own"),
    "an unknown key": (_set("dsseEnvelope", "more", 1), "unknown keys"),
    "an unknown key at the top": (_set("critical", 1), "unknown keys"),
    "no envelope": (_without("dsseEnvelope"), "keys are missing"),
    "another media type": (_set("mediaType", "text/plain"), "mediaType is misspelled"),
    "an older bundle": (
        _set("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2"),
        "a bundle of another version",
    ),
    "no material": (_set("verificationMaterial", {}), "nothing that is known here"),
    "a key and certificates": (
        _set("verificationMaterial", "x509CertificateChain", {"certificates": []}),
        "nothing that is known here",
    ),
    "a key and a log": (_set("verificationMaterial", "tlogEntries", [{}]), "nothing that is known here"),
    "timestamps": (
        _set("verificationMaterial", "timestampVerificationData", {}),
        "nothing that is known here",
    ),
    "no base64": (_set("dsseEnvelope", "payload", "e"), "is not base64"),
    "base64 in another spelling": (_set("dsseEnvelope", "payload", "eyJ="), "not spelled as base64 is"),
    "a signature that is none": (
        _set("dsseEnvelope", "signatures", 0, "sig", base64.b64encode(b"0").decode()),
        "does not verify",
    ),
    "a long signature": (_set("dsseEnvelope", "signatures", 0, "sig", "AAAA" * 400), "not printable text"),
    "another payload": (
        _set(
            "dsseEnvelope", "payload", base64.b64encode(json.dumps(statement({"a": b""})).encode()).decode()
        ),
        "does not verify",
    ),
    "a number for a text": (_set("mediaType", 1), "mediaType is not"),
}


@pytest.mark.parametrize("case", ENVELOPES)
def test_a_wrong_envelope(case: str) -> None:
    change, match = ENVELOPES[case]
    bundle = MAKER.bundle(statement(FILES))
    change(bundle)
    refused(lambda: check(json.dumps(bundle).encode()), match)


def _resource(**changes: Any) -> Callable[[Any], None]:
    def change(said: Any) -> None:
        said["predicate"]["resources"][0].update(changes)

    return change


def _serialization(**changes: Any) -> Callable[[Any], None]:
    def change(said: Any) -> None:
        said["predicate"]["serialization"].update(changes)

    return change


def _same_twice(said: Any) -> None:
    said["predicate"]["resources"] *= 2


TRICKS = (
    *("../secret", "..", ".", "a/../b", "a/./b", "/etc/passwd", "a//b", "a/", "/", ""),
    *("a\\b", "C:/x", "c:x", "a\nb", "a\x1b[2J", "a\u202eb", "a\x00b"),
)
STATEMENTS: dict[str, tuple[Callable[[Any], None], str]] = {
    **{f"the name {name!a}": (_resource(name=name), "name") for name in TRICKS},
    **{f"ignoring {name!a}": (_serialization(ignore_paths=[name]), "name") for name in TRICKS},
    "a sha1 digest": (_resource(algorithm="sha1", digest="0" * 40), "of a kind that no manifest holds"),
    "a digest of another length": (_resource(digest="0" * 40), "digest is misspelled"),
    "a digest in capitals": (_resource(digest="A" * 64), "digest is misspelled"),
    "a name that is no text": (_resource(name=["a"]), "name is not printable text"),
    "more about a file": (_resource(uri="x"), "unknown keys"),
    "sha1 throughout": (_serialization(hash_type="sha1"), "of a kind that no manifest holds"),
    "shards": (_serialization(method="shards", shard_size=1e9), "shards"),
    "shards by the specification": (_serialization(method="file-shard-1048576"), "shards"),
    "another method": (_serialization(method="tensors"), "serialized in a way that is not known"),
    "unknown parameters": (_serialization(depth=1), "unknown keys"),
    "ignoring what is no list": (_serialization(ignore_paths="x"), "not a list"),
    "ignoring a number": (_serialization(ignore_paths=[1]), "a name is no path"),
    "ignoring too much": (_serialization(ignore_paths=[f"x{n}" for n in range(2000)]), "too many"),
    "a file twice": (_same_twice, "named twice"),
    "no file": (_set("predicate", "resources", []), "names no file"),
    "two subjects": (_set("subject", []), "not exactly one subject"),
    "another subject": (_set("subject", 0, "digest", "sha256", "0" * 64), "not that of the files"),
    "another statement": (_set("_type", "https://in-toto.io/Statement/v0.1"), "_type is another"),
    "provenance": (_set("predicateType", "https://slsa.dev/provenance/v1"), "predicateType is another"),
    "digests of version 0.2": (
        _set("predicateType", "https://model_signing/Digests/v0.1"),
        "predicateType is another",
    ),
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_a_wrong_statement_is_refused_though_it_is_signed(case: str) -> None:
    change, match = STATEMENTS[case]
    said = copy.deepcopy(statement(FILES))
    change(said)
    if said["subject"] == statement(FILES)["subject"]:
        with contextlib.suppress(ValueError):
            said["subject"][0]["digest"]["sha256"] = whole(
                each["digest"] for each in said["predicate"]["resources"]
            )
    refused(lambda: check(json.dumps(MAKER.bundle(said)).encode()), match)


@pytest.mark.parametrize(
    ("payload", "match"),
    [
        (b"", "payload is not printable text"),
        (b"[]", "not a JSON object"),
        (b"{", "not a statement"),
        (b'{"_type": 1, "_type": 1}', "not a statement"),
        (b'{"_type": NaN}', "not a statement"),
        (b"\xff", "not a statement"),
        (b"\xef\xbb\xbf{}", "not a statement"),
        (b"[" * 100_000, "not a statement"),
    ],
)
def test_what_is_signed_is_no_statement(payload: bytes, match: str) -> None:
    refused(lambda: check(json.dumps(MAKER.bundle(payload)).encode()), match)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"mediaType": "x", "mediaType": "x"}',
        b'{"mediaType": Infinity}',
        b'{"mediaType": 1' + b"0" * 5000 + b"}",
        b'{"mediaType": 1e99999}',
        "\ufeff{}".encode(),
        b"{}{}",
        b"-----BEGIN SSH SIGNATURE-----\n",
        b"\x80\x04pickle",
    ],
)
def test_what_is_no_signature_at_all(data: bytes) -> None:
    refused(lambda: check(data), "")


def test_duplicate_keys_anywhere() -> None:
    data = MAKER.sign(FILES)
    refused(lambda: check(data.replace(b'"keyid": ""', b'"keyid": "", "keyid": ""')), "not a signature")


def test_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MAKER.sign(FILES)
    refused(lambda: check(data + b" " * upstream.MAX_BYTES), "not a signature of a model")
    monkeypatch.setattr(upstream_statement, "_MAX_BYTES", 100)
    refused(lambda: check(data), "not a statement")


@pytest.mark.control
def test_a_former_hint_and_keyid() -> None:
    """Before 1.1 there was the key instead of the hint; the specification allows null for keyid."""
    bundle = MAKER.bundle(statement(FILES))
    bundle["verificationMaterial"] = {"publicKey": {"rawBytes": "AAAA", "keyDetails": "X"}}
    bundle["dsseEnvelope"]["signatures"][0]["keyid"] = None
    assert check(json.dumps(bundle).encode()).signed_by == MAKER.fingerprint


SIGSTORE = {
    "by a certificate of Fulcio": {"certificate": {"rawBytes": "AAAA"}, "tlogEntries": [{"logIndex": "1"}]},
    "by a certificate alone": {"certificate": {"rawBytes": "AAAA"}},
    "by a chain in a log": {
        "x509CertificateChain": {"certificates": [{"rawBytes": "AAAA"}]},
        "tlogEntries": [{}],
    },
    "with timestamps": {
        "certificate": {"rawBytes": "AAAA"},
        "tlogEntries": [{}],
        "timestampVerificationData": {"rfc3161Timestamps": []},
    },
}


@pytest.mark.control
@pytest.mark.parametrize("case", SIGSTORE)
def test_sigstore_s_signatures_are_recognised_and_never_good(case: str) -> None:
    bundle = MAKER.bundle(statement(FILES)) | {"verificationMaterial": SIGSTORE[case]}
    data = json.dumps(bundle).encode()
    judged = judge(data, None, (), "model.sig")
    assert (judged.method, judged.signed_by, judged.coverage) == ("sigstore", None, None)
    assert "needs an online trust root" in (judged.unchecked or "")
    refused(lambda: check(data), "not signed by a key")
    refused(
        lambda: judge(data, parse_authority_pem(Authority().pem), (), "model.sig"), "not signed by a cert"
    )


class Authority:
    """A certificate authority, and those it certifies."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP384R1())
        self.certificate = self.certify("Authority", self.key, ca=True)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def certify(
        self,
        name: str,
        key: Any,
        *,
        ca: bool = False,
        signs: bool = True,
        by: tuple[x509.Certificate, Any] | None = None,
    ) -> x509.Certificate:
        own = hasattr(self, "certificate")
        issuer, issuer_key = by or ((self.certificate, self.key) if own else (None, self.key))
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        begin = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + dt.timedelta(days=3650 if ca else 1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=signs and not ca,
                    key_cert_sign=ca,
                    content_commitment=not signs,
                    **dict.fromkeys(
                        (
                            *("key_encipherment", "data_encipherment", "key_agreement", "crl_sign"),
                            *("encipher_only", "decipher_only"),
                        ),
                        False,
                    ),
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if issuer:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(issuer_key, hashes.SHA256())

    def sign(self, maker: Maker, *chain: x509.Certificate) -> bytes:
        """A signature by certificate, with this chain; the signer's own first."""
        bundle = MAKER.bundle(b"") | maker.bundle(statement(FILES))
        raw = [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in chain]
        bundle["verificationMaterial"] = {
            "x509CertificateChain": {"certificates": [{"rawBytes": each} for each in raw]},
            "tlogEntries": [],
        }
        return json.dumps(bundle).encode()

    def check(self, data: bytes) -> Judged:
        return judge(data, parse_authority_pem(self.pem), digests(FILES).items(), "model.sig")


@pytest.mark.control
def test_a_certificate_that_ended_long_ago_and_an_authority_between() -> None:
    authority = Authority()
    assert authority.check(authority.sign(MAKER, authority.certify("m", MAKER.key))).signed_by
    between = ec.generate_private_key(ec.SECP256R1())
    middle = authority.certify("Between", between, ca=True)
    own = authority.certify("m", MAKER.key, by=(middle, between))
    assert authority.check(authority.sign(MAKER, own, middle)).signed_by == MAKER.fingerprint


def test_certificates_that_lead_elsewhere_or_are_for_something_else() -> None:
    authority, other = Authority(), Authority()
    own = authority.certify("m", MAKER.key)
    refused(lambda: other.check(authority.sign(MAKER, own)), "does not lead to the authority")
    refused(lambda: other.check(authority.sign(MAKER, own, other.certificate)), "does not lead")
    refused(lambda: authority.check(authority.sign(Maker(), own)), "does not verify")
    unfit = authority.certify("m", MAKER.key, signs=False)
    refused(lambda: authority.check(authority.sign(MAKER, unfit)), "does not lead")
    signer = Maker()
    below = authority.certify("x", signer.key, by=(own, MAKER.key))  # own is no authority
    refused(lambda: authority.check(authority.sign(signer, below, own)), "does not lead")
    weak = rsa.generate_private_key(65537, 2048)
    refused(lambda: authority.check(authority.sign(MAKER, authority.certify("r", weak))), "not accepted")


def test_certificates_that_are_none() -> None:
    authority = Authority()
    own = authority.certify("m", MAKER.key)
    bundle = json.loads(authority.sign(MAKER, own))
    chain = bundle["verificationMaterial"]["x509CertificateChain"]
    chain["certificates"][0]["rawBytes"] = "AAAA"
    refused(lambda: authority.check(json.dumps(bundle).encode()), "does not lead")
    chain["certificates"] = []
    refused(lambda: authority.check(json.dumps(bundle).encode()), "wrong number of certificates")
    chain["certificates"] = [{"rawBytes": "AAAA"}] * 9
    refused(lambda: authority.check(json.dumps(bundle).encode()), "wrong number of certificates")
    for pem in (b"", b"x", authority.pem * 2, MAKER.pem):
        with pytest.raises(KeyRefused):
            parse_authority_pem(pem)


#: Ed25519's identity point: anybody can sign for it.
WEAK = ed25519.Ed25519PublicKey.from_public_bytes(b"\x01" + bytes(31))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ssh-ed25519 AAAA",
        b"x" * 100_000,
        rsa.generate_private_key(65537, 2048)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        Maker(ec.generate_private_key(ec.SECP256K1())).pem,
        Maker(ec.generate_private_key(ec.SECP224R1())).pem,
        WEAK.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        MAKER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    ],
    ids=["empty", "ssh", "large", "rsa", "k1", "p224", "weak", "private"],
)
def test_keys_that_are_refused(data: bytes) -> None:
    with pytest.raises(KeyRefused) as caught:
        parse_pem(data)
    assert caught.value.exit_code == 4


def test_a_key_in_another_spelling() -> None:
    point = MAKER.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = KEY.der[:1] + bytes([KEY.der[1] - 32]) + KEY.der[2:24] + bytes([len(point) + 1]) + b"\0" + point
    with pytest.raises(KeyRefused):
        parse_der(der)


def again(origin: dict[str, str], files: dict[str, bytes] = FILES) -> Judged:
    return judge_again(MAKER.sign(FILES), origin, digests(files).items(), "model.sig")


ORIGIN = origin_of(check(MAKER.sign(FILES)), KEY)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"signed_by": "0" * 64}, "otherwise of the signature at signed_by"),
        ({"signed_by": None}, "at signed_by"),
        ({"signature": None}, "at signature"),
        ({"signature": "sigstore"}, "at signature"),
        ({"key": None}, "at signed_by"),
        ({"key": "AAAA"}, "no usable key"),
        ({"key": "!"}, "no usable key"),
        ({"authority": "AAAA"}, "at authority"),
        ({"key": None, "authority": "AAAA"}, "no usable key"),
        ({"left_out": "1"}, "at left_out"),
    ],
)
def test_an_origin_that_says_otherwise(change: dict[str, str | None], match: str) -> None:
    assert again(ORIGIN).signed_by == MAKER.fingerprint
    origin = {key: value for key, value in (ORIGIN | change).items() if value is not None}
    refused(lambda: again(origin), match)


def test_a_file_that_is_not_carried_though_nothing_says_so() -> None:
    refused(lambda: again(ORIGIN, {"config.json": b"{}"}), "at left_out")
    assert again({**ORIGIN, "left_out": "1"}, {"config.json": b"{}"}).signed_by
