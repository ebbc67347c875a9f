"""What the origin of a model's signature says of it, in lock and manifest; checking it again by that alone.

The key, or the authority's certificate, stands in the origin itself.  So the model's folder holds exactly
what its makers published, and their own tool accepts it there; a key in a file of its own would be a file
that nobody signed.

An origin that names a signer (``signed_by``) has been checked, and can be again.  One that names none is
carried, and must not be called good.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.errors import KeyRefused, UpstreamSignatureInvalid
from appliance.trust.upstream import parse_upstream, require_key
from appliance.trust.upstream_keys import Authority, UpstreamKey, parse_der
from appliance.trust.upstream_statement import Coverage, compare, parse_statement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.trust.upstream import Method

#: All names that this module gives to parts of an origin.
NAMES: Final = ("signature", "signed_by", "key", "authority", "left_out")
#: An origin that has one of these is that of a signature by the model's makers.
MARKS: Final = ("signature", "signed_by")

Anchor = UpstreamKey | Authority

_UNCHECKED: Final[dict[Method, str]] = {
    "key": "no key was named to check it with",
    "certificate": "no authority was named to check it with",
    "sigstore": "signed with Sigstore, without a key: needs an online trust root",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A signature as it was found.

    ``signed_by`` is the fingerprint of the signer's key, ``coverage`` which files it is for; both None
    where nothing was checked, and ``unchecked`` says why.
    """

    method: Method
    signed_by: str | None = None
    coverage: Coverage | None = None

    @property
    def unchecked(self) -> str | None:
        return None if self.signed_by else _UNCHECKED[self.method]


def judge(data: bytes, anchor: Anchor | None, files: Iterable[tuple[str, str]], name: str) -> Judged:
    """Check a signature over files of which the digests are known.

    Args:
        data: the signature file.
        anchor: the key or the authority that a person named; None to find out only how it was signed.
        files: names relative to the signature's folder, and digests (SHA-256, hex).
        name: the signature file's own.

    Raises:
        UpstreamSignatureInvalid: it is not by that signer, or not for these files.
    """
    signature = parse_upstream(data)
    if anchor is None:
        return Judged(signature.method)
    if isinstance(anchor, Authority):
        from appliance.trust.upstream_certificates import require_certificate  # takes its time

        signer = require_certificate(signature, anchor)
    else:
        require_key(signature, signer := anchor)
    coverage = compare(parse_statement(signature.payload), files, name)
    return Judged(signature.method, signer.fingerprint, coverage)


def origin_of(judged: Judged, anchor: Anchor | None) -> dict[str, str]:
    """What is added to the origin of the signature file; ``anchor`` as it was judged by."""
    facts: dict[str, str] = {"signature": judged.method}
    if anchor is None or judged.signed_by is None or judged.coverage is None:
        return facts
    facts["signed_by"] = judged.signed_by
    facts["authority" if isinstance(anchor, Authority) else "key"] = base64.b64encode(anchor.der).decode()
    if judged.coverage.absent:
        facts["left_out"] = str(len(judged.coverage.absent))
    return facts


def judge_again(
    data: bytes, origin: Mapping[str, str], files: Iterable[tuple[str, str]], name: str
) -> Judged:
    """Check a signature by what its origin says; ``files`` and ``name`` as of ``judge``.

    Raises:
        UpstreamSignatureInvalid: it is not what the origin says, or not for these files.
    """
    anchor = _anchor(origin)
    judged = judge(data, anchor, files, name)
    if (again := origin_of(judged, anchor)) != (
        said := {key: origin[key] for key in NAMES if key in origin}
    ):
        different = next(key for key in NAMES if again.get(key) != said.get(key))
        raise UpstreamSignatureInvalid(
            f"the manifest says otherwise of the signature at {different}",
            found=again.get(different, "nothing") + _names(judged),
            wanted=said.get(different, "nothing"),
            hint="obtain the bundle again; its builder made a mistake",
        )
    return judged


def _names(judged: Judged) -> str:
    absent = judged.coverage.absent if judged.coverage else ()
    return f" (not carried: {', '.join(absent[:10])})" if absent else ""


def _anchor(origin: Mapping[str, str]) -> Anchor | None:
    try:
        if "key" in origin:
            return parse_der(base64.b64decode(origin["key"], validate=True))
        if "authority" in origin:
            from appliance.trust.upstream_certificates import parse_authority_der

            return parse_authority_der(base64.b64decode(origin["authority"], validate=True))
    except (KeyRefused, binascii.Error) as fault:
        raise UpstreamSignatureInvalid(
            "the manifest holds no usable key for the signature",
            found=str(fault),
            hint="obtain the bundle again; its builder made a mistake",
        ) from fault
    return None
