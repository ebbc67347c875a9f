"""Verifying a bundle: signatures first, then the set of files, then every byte.

The order is the point.  Nothing but the list and its signatures is read before enough holders are
known to have signed; nothing but the signed manifest is parsed; cheap checks (names, kinds, sizes)
come before the long one, so that a truncated copy of half a terabyte is refused within a second.
Only thousands of short files are hashed beside the cheap checks: for these the list is enough, and
what looking at each of them twice would cost is saved (docs/decisions/0010).

Two statements of the manifest are checked where they are used, not here, because they would take
a second hash over the same bytes and twice the time: that ``blocks.bin`` fits files of more than one
block (here: its size, and every file of one block), and that slices joined give the whole file's
digest (here: each slice).  Both are signed by the same holders as the files themselves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.bundle.blocks import check_blocks
from appliance.bundle.hashing import check_bytes, hashing_meanwhile
from appliance.bundle.judging import judge_list, refuse_second_root, require_role
from appliance.bundle.lists import parse_lists
from appliance.bundle.opening import open_tree
from appliance.bundle.paths import BLOCKS_PATH, MANIFEST_PATH
from appliance.bundle.presence import telling_pulled
from appliance.bundle.provenance import judge_provenance, statement_bytes
from appliance.bundle.reader import (
    read_apart,
    read_contents,
    read_listed,
    read_signed,
    require_file,
)
from appliance.bundle.upstream import check_upstream
from appliance.trust.revocation import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.fileset import ListedFiles
    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.manifest import Manifest
    from appliance.bundle.opening import BundleTree
    from appliance.bundle.reader import Contents
    from appliance.bundle.upstream import UpstreamFinding
    from appliance.progress import Progress
    from appliance.trust.chain import Judged
    from appliance.trust.documents import SignedDocument
    from appliance.trust.policy import Signer
    from appliance.trust.revocation import Revocation
    from appliance.trust.root import Root


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle of which every byte was checked.

    ``digest`` is the SHA-256 (hex) of trust/SHA256SUMS: the bundle's identity.  ``kind`` is the list that
    was signed, ``signed_digest`` its digest by its own algorithm; ``digests`` are those of trust/SHA256SUMS
    by the algorithms of all lists.  ``files`` holds every listed file by path, and nothing else was in the
    folder but the lists and the signatures.
    ``provenance`` are the holders who also say what it was built from (``appliance.bundle.provenance``),
    ``upstream`` the signatures of its models by their makers (``appliance.bundle.upstream``).
    ``root`` is the newest of its chain, by which it was judged, ``root_digest`` the fingerprint of that
    one, ``followed`` those on the way there from the trusted one.  ``revocation`` is the newest at
    hand.  ``folders`` say where it lay, ``notes`` what a person should know besides.
    """

    folders: tuple[Path, ...]
    digest: str
    kind: ListKind
    signed_digest: str
    digests: Mapping[str, str]
    manifest: Manifest
    files: ListedFiles
    signers: tuple[Signer, ...]
    provenance: tuple[str, ...]
    root: Root
    root_digest: str
    role: str
    followed: tuple[Judged, ...] = ()
    revocation: Revocation = NOTHING
    notes: tuple[str, ...] = ()
    upstream: tuple[UpstreamFinding, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder it lay in, or the first of several; for messages."""
        return self.folders[0]

    @property
    def size(self) -> int:
        """Bytes of all listed files."""
        return self.files.size


def verify_bundle(
    folders: Path | Sequence[Path],
    root: bytes,
    *,
    progress: Progress,
    workers: int | None = None,
    role: str = "release",
    revocations: Sequence[SignedDocument] = (),
) -> VerifiedBundle:
    """Check everything about the bundle in ``folders``; changes nothing.

    Args:
        folders: where the bundle lies.
        root: the bytes of the root that is trusted.
        progress: told of each file as it is done.
        workers: threads that hash; as many as there are cores if None.
        role: the role whose holders must have signed.
        revocations: what was taken back, brought by another way than the bundle.

    Raises:
        BundleUntrusted: the bundle must not be used; the subclass says why.
        MediumFailed: a medium was pulled meanwhile, or broke: nothing is known of the bundle.
        Usage: one of ``folders`` is not a folder that can be read.
    """
    with open_tree(folders) as tree, telling_pulled(lambda: tree.trees):
        require_file(tree, MANIFEST_PATH)
        signed = read_signed(tree)
        judged = judge_list(tree, signed, root, role, revocations)
        chain, verdict = judged.chain, judged.verdict
        verdict.require()
        lists = parse_lists(signed)
        read = read_apart(lists.index)
        with hashing_meanwhile(tree, lists, read, workers) as begun:
            contents = read_contents(tree, signed, lists, begun.begin if begun else None)
            refuse_second_root(lists.signed, root)
            require_role(contents.manifest, role)
            if (makes := contents.manifest.makes) is not None:  # not to be had by a detour either
                judged.revocation.require_bundle(makes)
            statement = statement_bytes(signed.digests, contents.manifest, contents.files)
            for refusal in judge_provenance(signed.provenance, verdict.signers, chain.root, statement):
                raise refusal
            _check_blocks(tree, contents)
            upstream = check_upstream(tree, contents)
            check_bytes(tree, contents.files, progress=progress, read=read, workers=workers, begun=begun)
    return VerifiedBundle(
        folders=tree.folders,
        digest=signed.digest,
        kind=signed.kind,
        signed_digest=signed.kind.digest(signed.message),
        digests=signed.digests,
        manifest=contents.manifest,
        files=contents.files,
        signers=verdict.signers,
        provenance=tuple(sorted(signed.provenance)),
        root=chain.root,
        root_digest=hashlib.sha256(chain.data).hexdigest(),
        role=role,
        followed=chain.followed,
        revocation=judged.revocation,
        notes=(*tree.notes, *verdict.notes),
        upstream=upstream,
    )


def _check_blocks(tree: BundleTree, contents: Contents) -> None:
    files = contents.files
    data = read_listed(tree, files.lists, BLOCKS_PATH, limit=files[BLOCKS_PATH].size)
    check_blocks(files, contents.order, data)
