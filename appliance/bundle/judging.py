"""Who signed a bundle, judged by a trusted root and what follows from it.

A bundle carries the roots that follow one another up to the one it was built for, and perhaps a
revocation.  These are not believed because the bundle holds them: each root must be signed by the one
before (``appliance.trust.chain``), the revocation by the role revoke of the newest.  They are read one
after the other, only as far as the signatures hold, so a hostile folder of many roots costs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

from appliance.bundle.list_kind import require_kind
from appliance.bundle.paths import TRUST_FOLDER, revocation_serial, root_path, root_version
from appliance.errors import BundleMalformed, RevocationInvalid, RootInvalid
from appliance.trust import mldsa, revocation, sshsig
from appliance.trust import root as roots
from appliance.trust.chain import Chain, Link, follow
from appliance.trust.documents import SignedDocument, signatures_beside, signer_in
from appliance.trust.policy import Verdict, decide
from appliance.trust.revocation import NOTHING, Revocation, parse_revocation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.listing import Listing
    from appliance.bundle.manifest import Manifest
    from appliance.bundle.reader import Signed
    from appliance.trust.root import Root


class Readable(Protocol):
    """Where the documents of a bundle are read from: its folder, its volumes, or all copies at hand."""

    def read(self, path: str, *, limit: int) -> bytes:
        """The bytes of a small file.

        Raises:
            BundleUntrusted: it is not there, cannot be read, or has more than ``limit`` bytes.
        """


@dataclass(frozen=True, slots=True)
class Judgement:
    """By what a list was judged, and how: the newest root, the newest revocation, the verdict."""

    chain: Chain
    revocation: Revocation
    verdict: Verdict


def judge_list(
    tree: Readable, signed: Signed, root: bytes, role: str, revocations: Sequence[SignedDocument] = ()
) -> Judgement:
    """Judge the signatures over a bundle's list.

    Args:
        tree: the open bundle.
        signed: its list and the signatures over it.
        root: the bytes of the root that is trusted.
        role: the role whose holders must have signed.
        revocations: brought by another way than the bundle; of these and the bundle's the newest counts.

    Raises:
        RootInvalid: the trusted root is malformed.
        ProfileNotMet: another list is signed than the profile of the newest root asks for.
        BundleUntrusted: a later root or a revocation is not what its holders signed; or the bundle
            was taken back.
    """
    chain, newest = follow_carried(tree, signed.names, root, revocations)
    require_kind(signed.kind, chain.root.policy.rules)
    verdict = decide(
        signed.message,
        signed.signatures,
        chain.root,
        role,
        post_quantum=signed.post_quantum,
        revoked=frozenset(newest.keys),
    )
    if verdict.accepted:
        newest.require_bundle(signed.digest)
    return Judgement(chain, newest, verdict)


def require_role(manifest: Manifest, role: str) -> None:
    """Who may bring patches brings no whole bundles, and the other way round.

    Raises:
        BundleMalformed: the manifest's bundle is of the kind that this role cannot vouch for.
    """
    if (manifest.makes is not None) == (role == "patch"):
        return
    kind = "a whole bundle" if manifest.makes is None else "a patch"
    raise BundleMalformed(
        f"this is {kind}, which the role {role} cannot vouch for",
        found=f"{kind}, signed as {role}",
        wanted="a patch signed as patch, or a whole bundle signed as release",
        hint="ask its holders what they meant to sign; a patch has --role patch wherever it is judged",
    )


def follow_carried(
    tree: Readable, names: Sequence[str], root: bytes, revocations: Sequence[SignedDocument] = ()
) -> tuple[Chain, Revocation]:
    """By what a bundle is to be judged: the newest root it leads to, and what was taken back since.

    Args:
        tree: where its documents are read from.
        names: those within its ``trust/``.
        root: the bytes of the root that is trusted.
        revocations: brought by another way than the bundle; of these and the bundle's the newest counts.

    Raises:
        RootInvalid: the trusted root is malformed.
        BundleUntrusted: a later root or a revocation is not what its holders signed.
    """
    chain = follow(root, _LaterRoots(tree, names, roots.parse_root(root).version))
    return chain, _newest_revocation([*_carried_revocations(tree, names), *revocations], chain.root)


def refuse_second_root(listed: Listing, root: bytes) -> None:
    """Refuse a bundle with another root of the trusted version; older ones are nobody's concern.

    Args:
        listed: a list of its files.
        root: the bytes of the root that is trusted.

    Raises:
        RootInvalid: it has one.
    """
    version, digest = roots.parse_root(root).version, listed.kind.digest(root)
    if (found := listed.get(root_path(version), digest)) != digest:
        raise RootInvalid(
            f"the bundle carries another root {version} than the one trusted",
            found=f"{listed.kind.algorithm} {found}",
            wanted=f"{listed.kind.algorithm} {digest}",
            hint="somebody made a second root of this version: ask its holders before using anything",
        )


class _LaterRoots(Mapping[int, Link]):
    """The roots in a bundle above a version, each read with its signatures when it is asked for."""

    def __init__(self, tree: Readable, names: Sequence[str], version: int) -> None:
        self._tree, self._names = tree, names
        found = (root_version(f"{TRUST_FOLDER}/{name}") for name in names)
        self._versions = {each for each in found if each is not None and each > version}

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._versions))

    def __getitem__(self, version: int) -> Link:
        if version not in self._versions:
            raise KeyError(version)
        document = _read(self._tree, self._names, root_path(version), roots.MAX_BYTES)
        return Link(document.data, document.signatures)


def _carried_revocations(tree: Readable, names: Sequence[str]) -> list[SignedDocument]:
    paths = [path for name in names if revocation_serial(path := f"{TRUST_FOLDER}/{name}") is not None]
    # A second one is refused with the list.
    documents = [_read(tree, names, path, revocation.MAX_BYTES) for path in paths[:1]]
    for path, document in zip(paths, documents, strict=False):
        if (serial := parse_revocation(document.data).serial) != revocation_serial(path):
            raise RevocationInvalid(
                "a revocation lies under another serial's name",
                found=f"serial {serial} in {path}",
                wanted=f"{TRUST_FOLDER}/revoked.{serial}.json",
                hint="obtain the bundle again",
            )
    return documents


def _read(tree: Readable, names: Sequence[str], path: str, limit: int) -> SignedDocument:
    """A document that lies in the bundle, and the signatures beside it."""
    name = path.removeprefix(f"{TRUST_FOLDER}/")
    sizes = {"sig": sshsig.MAX_BYTES, "mldsa87": mldsa.SIGNATURE_SIZE}
    beside = {
        each: tree.read(f"{TRUST_FOLDER}/{each}", limit=sizes[found[1]])
        for each in names
        if (found := signer_in(name, each))
    }
    return SignedDocument(tree.read(path, limit=limit), signatures_beside(name, beside))


def _newest_revocation(documents: Sequence[SignedDocument], root: Root) -> Revocation:
    """The newest of these, each of which must be signed, and take back all that the older ones did."""
    judged = [NOTHING]
    for document in documents:
        found = parse_revocation(document.data)
        signatures = document.signatures
        decide(
            document.data, signatures.ssh, root, "revoke", post_quantum=signatures.post_quantum
        ).require()
        judged.append(found)
    judged.sort(key=lambda each: each.serial)
    for older, newer in pairwise(judged):
        if not newer.includes(older) or (newer.serial == older.serial and newer != older):
            raise RevocationInvalid(
                "two revocations contradict each other",
                found=f"serials {older.serial} and {newer.serial}",
                wanted="a later one that takes back all that an earlier one did",
                hint="ask the holders of the role revoke",
            )
    return judged[-1]
