"""What of the roots' folder travels in a bundle: the chain up to its root, and a revocation.

A node that trusts root 2 takes a bundle for root 5 only if 3, 4 and 5 come along, each signed by the one
before.  So they are taken from the folder in which the root lies, and judged here: a chain that nobody
could follow is refused before anything is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.documents import read_document
from appliance.bundle.paths import TRUST_FOLDER, root_path
from appliance.errors import RootInvalid, Usage
from appliance.trust.chain import Link, judge_link
from appliance.trust.documents import signature_name
from appliance.trust.policy import decide
from appliance.trust.revocation import parse_revocation
from appliance.trust.root import parse_root

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.documents import SignedDocument
    from appliance.trust.root import Root


def carried_documents(root: Path, revoked: Path | None = None) -> dict[str, bytes]:
    """The files that lie in ``trust/`` of a bundle beside the root itself, by path.

    Args:
        root: the root that the bundle is built for; those before it lie beside it.
        revoked: a revocation, with its signatures beside it.

    Raises:
        Usage: ``revoked`` is given, and the root has nobody to revoke.
        RootInvalid: a root does not follow the one before.
        BundleUntrusted: a signature is not what it should be, or there are too few.
    """
    newest = read_document(root)
    version = parse_root(newest.data).version
    chain = {version: newest}
    while (before := root.with_name(f"root.{min(chain) - 1}.json")).is_file() and min(chain) > 1:
        chain[min(chain) - 1] = read_document(before)
    _check(chain)
    files: dict[str, bytes] = {}
    for number, document in sorted(chain.items()):
        files |= _files(root_path(number), document, with_itself=number != version)
    if revoked is not None:
        files |= _revoked(revoked, parse_root(newest.data))
    return files


def _check(chain: dict[int, SignedDocument]) -> None:
    """Each root follows the one before; the first may be of any age, and is believed elsewhere."""
    last: Root | None = None
    for version in sorted(chain):
        document = chain[version]
        if last is None:
            last = parse_root(document.data)
        else:
            judged = judge_link(last, Link(document.data, document.signatures))
            for refusal in judged.refusals:
                raise refusal
            last = judged.root
        if last.version != version:
            raise RootInvalid(
                f"root.{version}.json is a root of another version",
                found=f"version {last.version}",
                wanted=f"version {version}",
            )


def _revoked(path: Path, root: Root) -> dict[str, bytes]:
    document = read_document(path)
    serial = parse_revocation(document.data).serial
    if "revoke" not in root.roles:
        raise Usage(
            "the root has nobody who may revoke", found=", ".join(root.roles), wanted="a role revoke"
        )
    given = document.signatures
    decide(document.data, given.ssh, root, "revoke", post_quantum=given.post_quantum).require()
    return _files(f"{TRUST_FOLDER}/revoked.{serial}.json", document, with_itself=True)


def _files(path: str, document: SignedDocument, *, with_itself: bool) -> dict[str, bytes]:
    """A document's signatures by path, and itself."""
    given = document.signatures
    files = {path: document.data} if with_itself else {}
    for post_quantum, signatures in ((False, given.ssh), (True, given.post_quantum)):
        for signer, data in signatures.items():
            holder, _, digits = signer.partition(".")
            files[signature_name(path, holder, digits, post_quantum=post_quantum)] = data
    return files
