"""The keys that a revocation on disk takes back, if it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.documents import read_document
from appliance.errors import DocumentInvalid
from appliance.trust.revocation import Revocation
from appliance.trust.standing import judge_document

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.root import Root


def revoked_keys(path: Path, root: Root | None) -> frozenset[str]:
    """The keys that a revocation takes back, if it counts by this root.

    Raises:
        DocumentInvalid: it is no revocation.
        ThresholdNotMet, BundleUntrusted: it does not count.
    """
    standing = judge_document(read_document(path), root)
    if not isinstance(standing.document, Revocation):
        raise DocumentInvalid(f"{path} is no revocation", wanted="revoked.N.json")
    standing.require(path.name)
    return frozenset(standing.document.keys)
