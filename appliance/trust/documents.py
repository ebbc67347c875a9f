"""How the files of a document are called: itself, and the signatures beside it (docs/trust.md).

``root.2.json`` is signed in ``root.2.alice.3f1c9a2b.sig`` and ``root.2.alice.3f1c9a2b.mldsa87``: holder,
and the first 8 digits of the key's identity, since one person may sign with an old and a new key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.trust.policy import KEY_DIGITS, Signatures
from appliance.trust.root import HOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCUMENT: Final = re.compile(
    r"(?:root|revoked|admission|permit|waiver|time|enrolment|drive-permit)\.[0-9a-f]{1,16}\.json"
)
_SIGNATURE: Final = re.compile(
    rf"(?P<signer>{HOLDER.pattern}\.[0-9a-f]{{{KEY_DIGITS}}})\.(?P<kind>sig|mldsa87)"
)


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """The bytes of a document and of the signatures beside it, by holder and key (``alice.3f1c9a2b``)."""

    data: bytes
    signatures: Signatures


def signature_name(document: str, holder: str, keyid: str, *, post_quantum: bool = False) -> str:
    """The name of a signature's file beside a document's: ``root.2.alice.3f1c9a2b.sig``."""
    kind = "mldsa87" if post_quantum else "sig"
    return f"{_stem(document)}.{holder}.{keyid[:KEY_DIGITS]}.{kind}"


def signatures_beside(document: str, files: Mapping[str, bytes]) -> Signatures:
    """Those among files in the document's folder that are its signatures."""
    ssh: dict[str, bytes] = {}
    post_quantum: dict[str, bytes] = {}
    for name, data in files.items():
        if found := signer_in(document, name):
            (ssh if found[1] == "sig" else post_quantum)[found[0]] = data
    return Signatures(ssh, post_quantum)


def signer_in(document: str, name: str) -> tuple[str, str] | None:
    """Signer and kind that a file's name speaks of, if it is a signature of this document."""
    before = f"{_stem(document)}."
    match = _SIGNATURE.fullmatch(name.removeprefix(before)) if name.startswith(before) else None
    return (match["signer"], match["kind"]) if match else None


def _stem(document: str) -> str:
    return document.removesuffix(".json")
