"""Models signed by a certificate: its chain up to the authority that a person named.

As model-signing does, the chain is judged as of the moment the signer's own certificate began: no clock
is asked here, and a signature does not go bad when its certificate ends.  So an authority cannot take a
certificate back by letting it end; who must not count any more is no longer named in the definition.

Path building and the rules for authorities are those of ``cryptography`` (RFC 5280 as web browsers apply
it): an authority's certificate says so (basicConstraints, keyUsage), or it is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.errors import KeyRefused, UpstreamSignatureInvalid
from appliance.trust.dsse import pre_authentication_encoding
from appliance.trust.upstream_keys import Authority, UpstreamKey, allowed_key, require_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.upstream import UpstreamSignature

T = TypeVar("T")

#: An authority's certificate lies in the manifest, where a text has at most 4096 characters (base64).
MAX_DER: Final = 3072
_MAX_PEM: Final = 16384
#: What reading a malformed certificate may raise, sooner or later.
_MALFORMED: Final = (
    ValueError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def parse_authority_pem(data: bytes) -> Authority:
    """Read a PEM file of exactly one certificate.

    Raises:
        KeyRefused: malformed, or too large.
    """
    found = _loaded(lambda: x509.load_pem_x509_certificates(data[: _MAX_PEM + 1]))
    if len(found) != 1:
        raise _refused(f"{len(found)} certificates in one file", wanted="the authority's own, alone")
    return parse_authority_der(found[0].public_bytes(Encoding.DER))


def parse_authority_der(data: bytes) -> Authority:
    """Read a certificate; errors as of ``parse_authority_pem``."""
    if len(data) > MAX_DER:
        raise _refused("the certificate is too large", wanted=f"at most {MAX_DER} bytes of DER")
    _loaded(lambda: x509.load_der_x509_certificate(data))
    return Authority(data)


def require_certificate(signature: UpstreamSignature, authority: Authority) -> UpstreamKey:
    """The key that signed, if its certificate leads to the authority and the signature is its own.

    Raises:
        UpstreamSignatureInvalid: the chain leads elsewhere, is not for signing, or the signature is forged.
    """
    if signature.method != "certificate":
        raise _invalid(
            "the model was not signed by a certificate",
            f"a signature by {'Sigstore' if signature.method == 'sigstore' else 'a key'}",
        )
    try:
        own, *others = map(x509.load_der_x509_certificate, signature.certificates)
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store([x509.load_der_x509_certificate(authority.der)]))
            .time(own.not_valid_before_utc)
            .extension_policies(
                ca_policy=verification.ExtensionPolicy.webpki_defaults_ca(),
                # A web client's certificate names a host or a person; a signer's need not.
                ee_policy=verification.ExtensionPolicy.permit_all(),
            )
            .build_client_verifier()
        )
        verifier.verify(own, others)
        _require_for_signing(own)
        key = allowed_key(own.public_key())
    except (verification.VerificationError, *_MALFORMED) as fault:
        raise _invalid(
            "the certificate that signed the model does not lead to the authority",
            ascii(str(fault))[1:-1][:200],
        ) from fault
    except KeyRefused as fault:
        raise _invalid(fault.message, fault.found) from fault
    require_signature(key, signature.signature, pre_authentication_encoding(signature.payload))
    return key


def _require_for_signing(own: x509.Certificate) -> None:
    """Refuse a certificate for something else, or that is an authority itself, as model-signing does."""
    for kind, fits in (
        (x509.KeyUsage, lambda usage: usage.digital_signature),
        (x509.ExtendedKeyUsage, lambda usage: ExtendedKeyUsageOID.CODE_SIGNING in usage),
    ):
        try:
            if fits(own.extensions.get_extension_for_class(kind).value):
                return
        except x509.ExtensionNotFound:
            continue
    raise ValueError("it is not for signing: neither digitalSignature nor codeSigning")


def _loaded(load: Callable[[], T]) -> T:
    try:
        return load()
    except _MALFORMED as fault:
        raise _refused("not a certificate", wanted="one certificate in PEM", found=str(fault)) from fault


def _refused(message: str, *, wanted: str, found: str | None = None) -> KeyRefused:
    return KeyRefused(
        message,
        found=None if found is None else ascii(found)[1:-1][:200],
        wanted=wanted,
        hint="name the certificate of the authority under which the model's makers sign",
    )


def _invalid(message: str, found: str | None) -> UpstreamSignatureInvalid:
    return UpstreamSignatureInvalid(
        message,
        found=found,
        wanted="a certificate for signing under the authority that was named",
        hint="find out under which authority the model's makers sign",
    )
