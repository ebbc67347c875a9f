"""Where a bundle comes from, as others' tools read it: an in-toto statement in a DSSE envelope.

Each holder may say, beside the signature over the list, what the bundle was built from: an in-toto
Statement 1 with SLSA provenance 1 about ``trust/SHA256SUMS``.  It counts for no threshold.

The statement follows from the list and the manifest, so there is exactly one for each bundle: it is
made anew and compared byte for byte.  One that is there and says anything else, however well signed,
refuses the bundle.  It has no times and no names of machines; its types are names of ours, which no
server answers to.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from appliance.bundle.paths import LIST_PATH, MANIFEST_PATH, SBOM_PATH
from appliance.errors import ProvenanceInvalid, SignatureInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.dsse import (
    MAX_BYTES,
    Envelope,
    envelope_bytes,
    parse_envelope,
    pre_authentication_encoding,
    verify_envelope,
)
from appliance.trust.keys import PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.manifest import Manifest
    from appliance.bundle.signing_keys import SigningKey
    from appliance.errors import BundleUntrusted
    from appliance.trust.policy import Signer
    from appliance.trust.root import Root

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
#: What is done (docs/sbom.md): the payload is fetched as the lock pins it, and laid out as format 1.
BUILD_TYPE: Final = "urn:appliance:build:bundle-1"
BUILDER: Final = "urn:appliance:builder:station"
#: What lies in the bundle but is not the payload, by the names a statement gives it.
_BYPRODUCTS: Final = (MANIFEST_PATH, SBOM_PATH)


def statement_bytes(digests: Mapping[str, str], manifest: Manifest, files: ListedFiles) -> bytes:
    """The one statement about the provenance of a bundle, as canonical JSON.

    What lies in the bundle is named by the digests of all its lists.

    Args:
        digests: of the list that identifies the bundle, hex, by algorithm (``Signed.digests``).
        manifest: the bundle's manifest.
        files: every listed file by path, the manifest included.
    """
    lists = files.lists
    target, build = manifest.target, manifest.build
    materials = {"definition": build.definition, "lock": build.lock} if build else {}
    return canonical_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [_named(LIST_PATH, digests)],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "product": manifest.product,
                        "version": manifest.version,
                        "sequence": manifest.sequence,
                        "target": {
                            "distribution": target.distribution,
                            "suite": target.suite,
                            "architecture": target.architecture,
                            "python": target.python,
                        },
                    },
                    "resolvedDependencies": [
                        _named(name, {"sha256": value}) for name, value in materials.items()
                    ],
                },
                "runDetails": {
                    "builder": {"id": BUILDER},
                    "byproducts": [
                        _named(path, lists.digests(path)) for path in _BYPRODUCTS if path in files
                    ],
                },
            },
        }
    )


def judge_provenance(
    envelopes: Mapping[str, bytes], signers: Iterable[Signer], root: Root, statement: bytes
) -> tuple[BundleUntrusted, ...]:
    """What speaks against the envelopes of a bundle; nothing, if each is right.

    - ProvenanceInvalid: malformed, about something else, or of a holder who did not sign.
    - SignatureInvalid: not signed by the key that its holder signed the list with.

    Args:
        envelopes: the bytes of each envelope, by the holder in its name.
        signers: those whose signatures over the list verified.
        root: the trusted root.
        statement: what each must say (``statement_bytes``).
    """
    entries = {signer.holder: root.keys[signer.keyid].key for signer in signers}
    keys = {holder: key for holder, key in entries.items() if isinstance(key, PublicKey)}
    refusals: list[BundleUntrusted] = []
    for holder, data in sorted(envelopes.items()):
        try:
            _judge(data, keys.get(holder), statement)
        except (ProvenanceInvalid, SignatureInvalid) as refusal:
            refusal.message = f"provenance of {holder}: {refusal.message}"
            refusals.append(refusal)
    return tuple(refusals)


def make_provenance(key: SigningKey, public: PublicKey, statement: bytes) -> bytes | None:
    """The envelope in which ``key`` makes the statement; None if it is one that cannot.

    Args:
        key: makes the signature.
        public: its public half, known from the signature over the list.
        statement: ``statement_bytes``.

    Raises:
        SigningFailed: the key could not sign.
        SignatureInvalid: what it returned is no signature of it.
    """
    signature = key.sign_raw(pre_authentication_encoding(statement))
    if signature is None:
        return None
    envelope = Envelope(statement, public.keyid, signature)
    verify_envelope(envelope, public)
    return envelope_bytes(envelope)


def _judge(data: bytes, key: PublicKey | None, statement: bytes) -> None:
    if key is None:
        raise ProvenanceInvalid(
            "its holder did not sign the bundle",
            wanted="provenance only beside the holder's own signature",
            hint="find out who put it there; remove it if it was left over",
        )
    envelope = parse_envelope(data)
    verify_envelope(envelope, key)
    if envelope.payload != statement:
        raise _otherwise(envelope.payload, statement)


def _otherwise(payload: bytes, statement: bytes) -> ProvenanceInvalid:
    """What a statement that verified says otherwise than the bundle, as far as it can be told."""
    try:
        said = parse_canonical(payload, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        return ProvenanceInvalid("its statement is not canonical JSON", found=str(fault))
    wanted = json.loads(statement)
    about_another = False
    if isinstance(said, dict) and said.get("subject") != wanted["subject"]:
        about_another, said, wanted = True, said.get("subject"), wanted["subject"]
    place, found, expected = _difference(said, wanted, "")
    return ProvenanceInvalid(
        "it is about another bundle" if about_another else f"it says otherwise at {place}",
        found=found,
        wanted=expected,
        hint="have its holder sign this bundle again; appliance sign replaces it",
    )


def _difference(said: object, wanted: object, place: str) -> tuple[str, str, str]:
    """The first place where two values differ, and what stands there in each."""
    if isinstance(said, dict) and isinstance(wanted, dict):
        for key in sorted(said.keys() | wanted.keys()):
            if key not in said or key not in wanted or said[key] != wanted[key]:
                return _difference(
                    said.get(key, _Absent), wanted.get(key, _Absent), f"{place}.{ascii(key)[1:-1][:80]}"
                )
    if isinstance(said, list) and isinstance(wanted, list) and len(said) == len(wanted):
        for number, (one, other) in enumerate(zip(said, wanted, strict=True)):
            if one != other:
                return _difference(one, other, f"{place}[{number}]")
    return place or "its top", _shown(said), _shown(wanted)


class _Absent:
    """Stands for a value that is not there."""


def _shown(value: object) -> str:
    return "nothing" if value is _Absent else ascii(json.dumps(value))[1:-1][:200]


def _named(name: str, digests: Mapping[str, str]) -> dict[str, object]:
    """An in-toto resource descriptor."""
    return {"name": name, "digest": dict(digests)}
