"""Signatures that a model's makers put beside it: OpenSSF Model Signing (OMS), read strictly.

The file is a Sigstore bundle (JSON, media type v0.3) with a DSSE envelope around an in-toto statement, as
model-signing 1.x writes it.  Three ways to sign go by this form:

- by a key: checked here with the public key that a person named;
- by a certificate: checked here with the certificate authority that a person named;
- by Sigstore, without a key of one's own: Fulcio's certificate lives for minutes, and what makes it worth
  something is a public log and the trust root that Sigstore publishes and changes.  Recognised, and never
  called good.

The JSON is others', so its spelling is free; nothing else is.  What is signed is parsed only after its
signature held.  Who signed a model says nothing about who may put it on a node: it counts for no threshold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from appliance.errors import UpstreamSignatureInvalid
from appliance.trust.canonical import NotCanonicalError, parse_foreign
from appliance.trust.dsse import PAYLOAD_TYPE, decoded, pre_authentication_encoding
from appliance.trust.record import Record
from appliance.trust.upstream_keys import require_signature
from appliance.trust.upstream_statement import FOREIGN

if TYPE_CHECKING:
    from appliance.trust.upstream_keys import UpstreamKey

Method = Literal["key", "certificate", "sigstore"]

#: A file of a model takes some 200 bytes in it: room for 40,000 files, and not for more memory than that.
MAX_BYTES: Final = 8 << 20
MAX_CERTIFICATES: Final = 8
_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_ANY_BUNDLE: Final = re.compile(
    r"application/vnd\.dev\.sigstore\.bundle(\.v0\.[0-9]{1,2})?\+json(;version=0\.[0-9]{1,2})?"
)
_HINT: Final = re.compile(r"[0-9a-f]{64}")
#: What model-signing 1.0 wrote instead of the hint, and no version reads.
_FORMER: Final = frozenset({"hint", "rawBytes", "keyDetails"})


@dataclass(frozen=True, slots=True)
class UpstreamSignature:
    """A well-formed signature file; nothing is verified yet.

    ``hint`` is what it says of the key: the SHA-256 of its PEM form.  ``certificates`` are DER, the
    signer's own first.  Of one by Sigstore nothing but the method was read.
    """

    method: Method
    payload: bytes = b""
    signature: bytes = b""
    hint: str | None = None
    certificates: tuple[bytes, ...] = ()


def parse_upstream(data: bytes) -> UpstreamSignature:
    """Read a signature file.

    Raises:
        UpstreamSignatureInvalid: of another form than model-signing 1.x writes.
    """
    try:
        value = parse_foreign(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise UpstreamSignatureInvalid(
            "not a signature of a model",
            found=str(fault),
            wanted="the JSON that model-signing 1.x writes",
            hint=FOREIGN,
        ) from fault
    top = Record(value, "signature", UpstreamSignatureInvalid, hint=FOREIGN)
    top.exactly(frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"}))
    top.text("mediaType", _ANY_BUNDLE)
    material = top.record("verificationMaterial")
    method = _method(material)
    if method == "sigstore":
        top.record("dsseEnvelope")
        return UpstreamSignature(method)
    if (kind := top.text("mediaType")) != _MEDIA_TYPE:
        top.refuse("a bundle of another version", found=kind, wanted=_MEDIA_TYPE)
    envelope = top.record("dsseEnvelope").exactly(frozenset({"payload", "payloadType", "signatures"}))
    if (kind := envelope.text("payloadType")) != PAYLOAD_TYPE:
        envelope.refuse("the payload is of another type", found=kind, wanted=PAYLOAD_TYPE)
    if (count := len(envelope.items("signatures"))) != 1:
        envelope.refuse("not exactly one signature", found=str(count), wanted="1")
    (one,) = envelope.records("signatures")
    one.exactly(frozenset({"sig"}), frozenset({"keyid"}))
    if one.has("keyid") and not (one.none("keyid") or one.raw("keyid") == ""):
        one.refuse("the signature names a key in a way of its own", wanted="an empty keyid")
    return UpstreamSignature(
        method,
        payload=decoded(envelope, "payload", most=MAX_BYTES),
        signature=decoded(one, "sig", most=1024),
        hint=_hint(material) if method == "key" else None,
        certificates=_certificates(material) if method == "certificate" else (),
    )


def require_key(signature: UpstreamSignature, key: UpstreamKey) -> None:
    """Refuse a signature that this key did not make over this payload.

    Raises:
        UpstreamSignatureInvalid: made by another key, over other bytes, or forged.
    """
    if signature.method != "key":
        raise UpstreamSignatureInvalid(
            "the model was not signed by a key",
            found=f"a signature by {'Sigstore' if signature.method == 'sigstore' else 'a certificate'}",
            wanted="one by the key that was named",
            hint="name the certificate authority instead, or nothing: then it is carried unchecked",
        )
    if signature.hint not in {None, key.hint}:
        raise UpstreamSignatureInvalid(
            "the model was signed by another key than the one that was named",
            found=f"a key with sha256 {signature.hint} of its PEM form",
            wanted=f"sha256 {key.hint}",
            hint="find out which key the model's makers sign with, and compare it with theirs",
        )
    require_signature(key, signature.signature, pre_authentication_encoding(signature.payload))


def _method(material: Record) -> Method:
    """How it was signed, by what is there to check it with."""
    names = set(material.names())
    logged = material.has("tlogEntries") and bool(material.items("tlogEntries"))
    if "certificate" in names or (logged and "publicKey" not in names):
        return "sigstore"
    kinds: dict[frozenset[str], Method] = {
        frozenset({"publicKey"}): "key",
        frozenset({"x509CertificateChain"}): "certificate",
    }
    method = kinds.get(frozenset(names - {"tlogEntries"}))
    if method is None or logged:
        material.refuse(
            "nothing that is known here to check it with",
            found=", ".join(sorted(names)),
            wanted="publicKey or x509CertificateChain, without tlogEntries",
        )
    return method


def _hint(material: Record) -> str | None:
    public = material.record("publicKey").exactly(frozenset(), _FORMER)
    # Version 1.0 wrote none; the signature alone tells then.
    if not public.has("hint") or public.none("hint"):
        return None
    return public.text("hint", _HINT)


def _certificates(material: Record) -> tuple[bytes, ...]:
    chain = material.record("x509CertificateChain").exactly(frozenset({"certificates"}))
    if not 1 <= len(chain.items("certificates")) <= MAX_CERTIFICATES:
        chain.refuse("a wrong number of certificates", wanted=f"1 to {MAX_CERTIFICATES}")
    return tuple(
        decoded(one.exactly(frozenset({"rawBytes"})), "rawBytes", most=16384)
        for one in chain.records("certificates")
    )
