"""What a reviewer can sign after a verification: a SLSA verification summary (VSA, version 1).

``verify --attest`` writes it: an in-toto statement in a DSSE envelope, signed with the reviewer's own key,
that this bundle was verified, by which root, when by this machine's clock, and which holders had signed.
It is the reviewer's word and binds no node: what binds nodes is an admission (docs/trust.md).

https://slsa.dev/spec/v1.1/verification_summary says what the fields mean.  ``verifiedLevels`` is build
level 1 where holders state the provenance, level 0 otherwise: nothing here knows how the builder works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance import __version__
from appliance.bundle.paths import LIST_PATH
from appliance.bundle.provenance import STATEMENT_TYPE, make_provenance
from appliance.bundle.signing_keys import open_key
from appliance.errors import SigningFailed
from appliance.trust.canonical import canonical_bytes
from appliance.trust.sshsig import parse_signature

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle

PREDICATE_TYPE: Final = "https://slsa.dev/verification_summary/v1"
VERIFIER: Final = "urn:appliance:verifier"
_NAMESPACE: Final = "attestation@appliance"


def summary_bytes(bundle: VerifiedBundle, time: str) -> bytes:
    """The statement, as canonical JSON.

    Args:
        bundle: what was verified.
        time: RFC 3339 in UTC, by the clock of this machine.
    """
    manifest = bundle.manifest
    level = 1 if bundle.provenance else 0
    return canonical_bytes(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": LIST_PATH, "digest": dict(bundle.digests)}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "verifier": {"id": VERIFIER, "version": {"appliance": __version__}},
                "timeVerified": time,
                "resourceUri": f"urn:appliance:bundle:{manifest.product}:{manifest.version}",
                "policy": {
                    "uri": f"urn:appliance:root:{bundle.root.version}:{bundle.role}",
                    "digest": {"sha256": bundle.root_digest},
                },
                "verificationResult": "PASSED",
                "verifiedLevels": [f"SLSA_BUILD_LEVEL_{level}"],
                "slsaVersion": "1.1",
                "appliance": {
                    "sequence": manifest.sequence,
                    "files": len(bundle.files),
                    "bytes": bundle.size,
                    "signers": [{"holder": one.holder, "keyid": one.keyid} for one in bundle.signers],
                    "threshold": bundle.root.roles[bundle.role].threshold,
                    "solo": bundle.root.solo,
                    "revocation": bundle.revocation.serial,
                },
            },
        }
    )


def attest(bundle: VerifiedBundle, key: Path, time: str) -> bytes:
    """The signed summary: a DSSE envelope.

    Args:
        bundle: what was verified.
        key: the reviewer's, as ``appliance sign`` takes it; not one on a FIDO token.
        time: as of ``summary_bytes``.

    Raises:
        Usage, SigningFailed, KeyRefused: the key cannot be used.
    """
    opened = open_key(key)
    statement = summary_bytes(bundle, time)
    # Which key it is shows in an SSH signature, wherever it is kept; that signature is thrown away.
    public = parse_signature(opened.sign(statement, _NAMESPACE)).key
    envelope = make_provenance(opened, public, statement)
    if envelope is None:
        raise SigningFailed(
            f"{key} is on a token, which signs only its own framing",
            wanted="a key in a file or in ssh-agent",
            hint="sign the printed result instead: ssh-keygen -Y sign",
        )
    return envelope
