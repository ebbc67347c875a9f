"""Bringing together what several people signed, each on a copy and a stick of their own.

Copies of one document are one document; their signatures are put together.  Everything is judged before
anything is written: roots by the chain, each by the one before; everything else by the newest root.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.ceremony.revoked import revoked_keys
from appliance.bundle.ceremony.signing import named_document
from appliance.bundle.documents import read_document, read_folder, read_plain
from appliance.bundle.durable import have_folder, replace_file, writing_under
from appliance.bundle.roots import load_root
from appliance.errors import DocumentInvalid, RootInvalid, Usage
from appliance.trust import sshsig
from appliance.trust.documents import SignedDocument, signer_in
from appliance.trust.kinds import role_of
from appliance.trust.policy import Signatures, judge_signers
from appliance.trust.root import MAX_BYTES, Root, parse_root
from appliance.trust.standing import judge_document, roots_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.trust.kinds import Document
    from appliance.trust.standing import Standing

_SIGNATURES: Final = (".sig", ".mldsa87")


@dataclass(frozen=True, slots=True)
class Assembled:
    """A document that counts, and the files that lie in the folder now."""

    path: Path
    standing: Standing
    files: tuple[Path, ...]


class _Gathered:
    """A document and every signature of it that was found; of one name there may be several."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.signatures: dict[str, list[bytes]] = {}

    def add(self, name: str, signature: bytes) -> None:
        known = self.signatures.setdefault(name, [])
        if signature not in known:
            known.append(signature)

    def first(self, document: str) -> SignedDocument:
        """With one signature of each name."""
        ssh: dict[str, bytes] = {}
        post_quantum: dict[str, bytes] = {}
        for name, found in self.signatures.items():
            if (signer := signer_in(document, name)) is not None:
                (ssh if signer[1] == "sig" else post_quantum)[signer[0]] = found[0]
        return SignedDocument(self.data, Signatures(ssh, post_quantum))

    def others(self, document: str) -> list[Signatures]:
        """What is there besides: ECDSA gives another signature each time."""
        return [
            Signatures({signer[0]: each}) if signer[1] == "sig" else Signatures({}, {signer[0]: each})
            for name, found in self.signatures.items()
            if (signer := signer_in(document, name)) is not None
            for each in found[1:]
        ]


def assemble(
    sources: Sequence[Path], out: Path, *, root: Path | None, revoked: Path | None = None
) -> list[Assembled]:
    """Check documents, and put them and their signatures into the folder ``out``.

    Args:
        sources: documents with what lies beside them, folders of such, and signatures by themselves.
        out: made if it is not there; what lies there already must be the same.  The trusted root
            itself is not put there, unless it is a first one, which its own signatures judge.
        root: the root that is trusted; None only for roots from version 1 on, and nothing else.
        revoked: a revocation; its keys count no more, but for roots.

    Raises:
        Usage: a source cannot be read, is no document, or there is none.
        ThresholdNotMet: signatures are missing; it says whose.
        BundleUntrusted: another reason against one of the documents; the subclass says which.
    """
    gathered = _gather(sources)
    trusted = None if root is None else parse_root(load_root(root, None))
    documents = {name: named_document(name, each.data) for name, each in gathered.items()}
    roots = sorted((each.version, name) for name, each in documents.items() if isinstance(each, Root))
    order = [name for _, name in roots] + [
        name for name in documents if not isinstance(documents[name], Root)
    ]

    if trusted is None and len(roots) < len(documents):
        # A first root vouches for itself and nothing else, as long as nobody named it.
        raise Usage("nothing says whose keys count", wanted="--root root.N.json")
    standings: dict[str, Standing] = {}
    withdrawn: frozenset[str] | None = None
    for name in order:
        document = documents[name]
        if isinstance(document, Root) and trusted is not None and _is_known(document, trusted):
            continue
        if not isinstance(document, Root) and withdrawn is None:
            withdrawn = frozenset() if revoked is None else revoked_keys(revoked, trusted)
        signed = gathered[name].first(name)
        standings[name] = judge_document(signed, trusted, revoked=withdrawn or frozenset())
        for each in gathered[name].others(name):
            _judge_alone(document, signed.data, each, trusted, withdrawn or frozenset())
        standings[name].require(name)
        if isinstance(document, Root):
            trusted = document
    for name in standings:
        if os.path.lexists(out / name) and read_plain(out / name, MAX_BYTES) != gathered[name].data:
            raise Usage(
                f"{out / name} is there already, and another",
                hint="name another folder with --out; then find out which of the two is right",
            )
    with writing_under(out):
        have_folder(out)
    return [_put(out, name, gathered[name], standing) for name, standing in standings.items()]


def _judge_alone(
    document: Document, data: bytes, given: Signatures, trusted: Root | None, revoked: frozenset[str]
) -> None:
    """Judge a second signature under a name that there is one of already.

    Raises:
        BundleUntrusted: it is bad.
    """
    roots = roots_for(document, trusted)
    gone = frozenset() if isinstance(document, Root) else revoked
    if faults := judge_signers(data, given, roots, role_of(document, roots[0]), revoked=gone)[1]:
        raise faults[0]


def _is_known(root: Root, trusted: Root) -> bool:
    """Whether a root is the trusted one, and one that nothing at hand can judge.

    Whatever else lies there under its version or an older one must never come to be trusted.

    Raises:
        RootInvalid: another root of the trusted version.
        Usage: an older one, of which nothing is known.
    """
    if root.version < trusted.version:
        raise Usage(
            f"root {root.version} is older than the one that is trusted, and nothing vouches for it",
            found=f"root {root.version}",
            wanted=f"roots after {trusted.version}",
            hint="leave it out; or name the oldest root you trust with --root, and the chain is followed",
        )
    if root.version == trusted.version and root != trusted:
        raise RootInvalid(
            f"there is another root {root.version} than the one that is trusted",
            found=f"fingerprint {root.fingerprint}",
            wanted=f"fingerprint {trusted.fingerprint}",
            hint="somebody made a second root of this version: ask its holders before using anything",
        )
    return root.version == trusted.version > 1


def _gather(sources: Sequence[Path]) -> dict[str, _Gathered]:
    gathered: dict[str, _Gathered] = {}
    loose: list[tuple[Path, bytes]] = []
    for source in sources:
        if source.suffix in _SIGNATURES:
            loose.append((source, read_plain(source, sshsig.MAX_BYTES)))
            continue
        found = read_folder(source) if source.is_dir() else [(source, read_document(source))]
        for path, signed in found:
            one = gathered.setdefault(path.name, _Gathered(signed.data))
            if one.data != signed.data:
                raise DocumentInvalid(
                    f"there are two different documents of the name {path.name}",
                    found=f"{path}: SHA-256 {hashlib.sha256(signed.data).hexdigest()}",
                    wanted=f"SHA-256 {hashlib.sha256(one.data).hexdigest()}, as in the copy before it",
                    hint="find out who changed which copy; sign one of them anew, all of you",
                )
            stem = path.name.removesuffix(".json")
            for kind, each in (("sig", signed.signatures.ssh), ("mldsa87", signed.signatures.post_quantum)):
                for signer, data in each.items():
                    one.add(f"{stem}.{signer}.{kind}", data)
    if not gathered:
        raise Usage(
            "there is no document among these", wanted="root.N.json, revoked.N.json, admission.….json …"
        )
    for path, data in loose:
        if not (of := [name for name in gathered if signer_in(name, path.name)]):
            raise Usage(f"{path} signs none of these", found=", ".join(gathered), wanted="its document too")
        gathered[of[0]].add(path.name, data)
    return gathered


def _put(out: Path, name: str, gathered: _Gathered, standing: Standing) -> Assembled:
    """Write a document into the folder after its signatures: it never lies there without them."""
    files = {each: found[0] for each, found in sorted(gathered.signatures.items())}
    for each, data in files.items():
        replace_file(out / each, data)
    replace_file(out / name, gathered.data)
    return Assembled(out / name, standing, (out / name, *(out / each for each in files)))
