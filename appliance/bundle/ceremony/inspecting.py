"""Looking into a document, without anything having to be right but its form."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.ceremony.revoked import revoked_keys
from appliance.bundle.documents import read_document
from appliance.bundle.durable import have_folder, replace_file, writing_under
from appliance.bundle.roots import load_root
from appliance.trust.kinds import parse_document
from appliance.trust.mldsa import PostQuantumKey
from appliance.trust.policy import KEY_DIGITS
from appliance.trust.root import Root, parse_root
from appliance.trust.standing import judge_document

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.trust.kinds import Document
    from appliance.trust.standing import Standing


@dataclass(frozen=True, slots=True)
class Seen:
    """A document, and how far it is where that can be said.

    ``unjudged`` signatures lie beside it where no root says whose keys count.
    """

    document: Document
    digest: str
    root: Root | None
    standing: Standing | None
    unjudged: int = 0


def look_into(file: Path, root: Path | None, revoked: Path | None = None) -> Seen:
    """Read a document and judge its signatures: by ``root``, or a first root by itself.

    Raises:
        Usage: a file cannot be read, or the root is not the one that counts.
        BundleUntrusted: it is no document.
    """
    signed = read_document(file)
    document = parse_document(signed.data)
    trusted = None if root is None else parse_root(load_root(root, None))
    digest = hashlib.sha256(signed.data).hexdigest()
    count = len(signed.signatures.ssh) + len(signed.signatures.post_quantum)
    by_itself = isinstance(document, Root) and document.version == 1 and count
    if trusted is None and not by_itself:
        return Seen(document, digest, None, None, count)
    gone = frozenset() if revoked is None else revoked_keys(revoked, trusted)
    return Seen(document, digest, trusted, judge_document(signed, trusted, revoked=gone))


def write_pem(root: Root, out: Path) -> list[Path]:
    """Write a root's ML-DSA keys as openssl reads them: ``alice.3f1c9a2b.pem``.

    Raises:
        PreflightFailed, SpaceExhausted: they cannot be written.
    """
    written = []
    with writing_under(out):
        have_folder(out)
        for keyid, entry in root.keys.items():
            if isinstance(entry.key, PostQuantumKey):
                path = out / f"{entry.holder}.{keyid[:KEY_DIGITS]}.pem"
                replace_file(path, entry.key.pem.encode())
                written.append(path)
    return written
