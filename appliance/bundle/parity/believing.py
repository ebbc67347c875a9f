"""Which of many damaged copies of a list and its signatures is to be believed.

A list counts if enough holders signed it, judged as ``appliance verify`` judges: by the trusted root and
the roots that follow from it in the bundle, and by what was taken back.  Signatures may come from any
copy, since each proves itself.  Roots and revocations are taken from the copy that has the digest in the
list; they count by their own signatures, so it does not matter that nobody has judged the list yet.

Without a root the signatures are still verified: an SSH signature by the key it names, an ML-DSA one,
which names none, by the roots in the bundle.  That finds damage, though not a forger.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.bundle.judging import follow_carried, refuse_second_root
from appliance.bundle.list_kind import require_kind
from appliance.bundle.listing import parse_listing
from appliance.bundle.media.layout import is_shared_out
from appliance.bundle.parity.gathering import POST_QUANTUM, PROVENANCE, SIGNATURE, STATEMENTS, find_sound
from appliance.bundle.paths import TRUST_FOLDER, root_version
from appliance.errors import (
    BundleMalformed,
    BundleUntrusted,
    DamageTooGreat,
    SignatureInvalid,
    SignerUnknown,
    VolumesMixed,
)
from appliance.trust import dsse, sshsig
from appliance.trust.policy import decide, judge_post_quantum, judge_signature
from appliance.trust.root import MAX_BYTES as MAX_ROOT
from appliance.trust.root import namespace, parse_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from appliance.bundle.list_kind import ListKind
    from appliance.bundle.listing import Listing
    from appliance.bundle.parity.gathering import Copies, Found, Statement
    from appliance.bundle.volume import Volume
    from appliance.trust.documents import SignedDocument
    from appliance.trust.policy import Verdict
    from appliance.trust.root import Root


@dataclass(frozen=True)
class Believed:
    """A signed list, and of what lies beside it a good copy by path, or why no copy is good.

    ``signers`` are the holders who count by the trusted root; empty if there was none to judge by.
    """

    kind: ListKind
    listing: bytes
    beside: Mapping[str, bytes]
    faults: Mapping[str, BundleUntrusted]
    signers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Beside:
    """What lies beside one list, judged; ``listed`` is its kind."""

    listed: ListKind
    good: dict[Statement, dict[str, bytes]] = field(default_factory=dict)
    faults: dict[str, BundleUntrusted] = field(default_factory=dict)

    def judge(self, kind: Statement, found: Found, judge: Callable[[str, bytes], object]) -> None:
        """Keep of each holder a copy that is right, or else what is wrong with it."""
        good = self.good.setdefault(kind, {})
        for holder, copies in sorted(found.items()):
            fault: BundleUntrusted = SignatureInvalid("no copy of it can be read")
            for data in copies:
                try:
                    judge(holder, data)
                except BundleUntrusted as wrong:
                    fault = wrong
                else:
                    good[holder] = data
                    break
            else:
                self.faults[kind.path(holder, self.listed)] = fault

    def believed(
        self, listing: bytes, copies: Copies, signers: tuple[str, ...] = (), notes: tuple[str, ...] = ()
    ) -> Believed:
        """With the provenance, each judged by the key with which its holder signed the list."""

        def judge(holder: str, data: bytes) -> None:
            if holder not in self.good[SIGNATURE]:
                raise SignerUnknown("by a holder who did not sign the list")
            key = sshsig.parse_signature(self.good[SIGNATURE][holder]).key
            dsse.verify_envelope(dsse.parse_envelope(data), key)

        self.judge(PROVENANCE, copies.beside[PROVENANCE], judge)
        beside = {
            kind.path(holder, self.listed): self.good[kind][holder]
            for kind in STATEMENTS
            for holder in self.good[kind]
        }
        return Believed(self.listed, listing, beside, self.faults, signers, notes)


def believe_by_root(
    copies: Copies, root: bytes, role: str, revocations: Sequence[SignedDocument] = ()
) -> Believed:
    """The one list that enough holders signed, by the trusted root or one that follows from it.

    Raises:
        RootInvalid: the trusted root is malformed.
        VolumesMixed: there are several such lists.
        DamageTooGreat: a root on the way is damaged in every copy.
        BundleUntrusted: there is none; why the one was refused that most speaks for.
    """
    parse_root(root)
    accepted: dict[bytes, tuple[_Beside, Verdict]] = {}
    refused: list[tuple[tuple[int, int], BundleUntrusted]] = []
    for listing, count in copies.lists.items():
        try:
            accepted[listing] = _judge_by_root(listing, copies, root, role, revocations)
        except BundleUntrusted as fault:
            good = _judge_by_themselves(listing, copies, role).good[SIGNATURE]
            refused.append(((len(good), count), fault))
    if not accepted:
        raise max(refused, key=lambda each: each[0])[1]
    _refuse_mixture(copies, list(accepted))
    ((listing, (beside, verdict)),) = accepted.items()
    signers = tuple(sorted({signer.holder for signer in verdict.signers}))
    return beside.believed(listing, copies, signers, verdict.notes)


def believe_by_themselves(copies: Copies, role: str) -> Believed:
    """The list that most speaks for: signatures that verify by their own keys, then copies, then files.

    Raises:
        VolumesMixed: signatures speak for several lists.
        DamageTooGreat: no list is well-formed.
    """
    ranked: list[tuple[tuple[int, int, int], bytes, _Beside]] = []
    for listing, count in copies.lists.items():
        try:
            digests = parse_listing(listing, copies.kind)
        except BundleMalformed:
            continue
        beside = _judge_by_themselves(listing, copies, role)
        few = (path for path in digests if not is_shared_out(path))
        agreeing = sum(
            find_sound(copies.volumes, path, digests[path], MAX_ROOT, copies.kind) is not None
            for path in few
        )
        ranked.append(((len(beside.good[SIGNATURE]), count, agreeing), listing, beside))
    if not ranked:
        raise DamageTooGreat(
            f"{copies.kind} is damaged in every copy",
            found=f"{len(copies.lists)} copies, none well-formed",
            hint="name more volumes of this bundle: each has two copies of it",
        )
    _refuse_mixture(copies, [listing for (signed, _, _), listing, _ in ranked if signed])
    _, chosen, right = max(ranked, key=lambda each: each[0])
    roots = list(_carried_roots(Documents(copies.volumes, parse_listing(chosen, copies.kind))))

    def judge(holder: str, data: bytes) -> None:
        judge_post_quantum(chosen, holder, data, [each for each in roots if role in each.roles], role)

    right.judge(POST_QUANTUM, copies.beside[POST_QUANTUM], judge)
    return right.believed(chosen, copies)


class Documents:
    """The roots and revocations that a list names, with their signatures, from whichever copy is sound."""

    def __init__(self, volumes: Sequence[Volume], digests: Listing) -> None:
        self._volumes, self._digests = volumes, digests
        before = f"{TRUST_FOLDER}/"
        self.names = [path.removeprefix(before) for path in digests.paths.under(TRUST_FOLDER)]

    def read(self, path: str, *, limit: int) -> bytes:
        """The bytes of one of them.

        Raises:
            DamageTooGreat: no copy is sound.
        """
        kind, digest = self._digests.kind, self._digests[path]
        data = find_sound(self._volumes, path, digest, limit, kind)
        if data is None:
            raise DamageTooGreat(
                f"{path} is damaged or lost in every copy, and without it nobody can say who may sign",
                found=f"no file of {kind.algorithm} {digest}",
                wanted="one sound copy",
                hint=obtain(path, self._volumes[0].folder),
            )
        return data


def obtain(path: str, folder: object) -> str:
    """What to do where no copy of a document of ``trust/`` is sound: nothing computes it."""
    return (
        f"name another copy or volume of this bundle; else ask who built it for {path.rpartition('/')[2]} "
        f"(it lies beside the root they built for), put it at {folder}/{path}, and run the command again: "
        "the signed list judges it"
    )


def _judge_by_root(
    listing: bytes, copies: Copies, root: bytes, role: str, revocations: Sequence[SignedDocument]
) -> tuple[_Beside, Verdict]:
    digests = parse_listing(listing, copies.kind)
    carried = Documents(copies.volumes, digests)
    chain, revocation = follow_carried(carried, carried.names, root, revocations)
    require_kind(copies.kind, chain.root.policy.rules)
    roots, revoked = (chain.root,), frozenset(revocation.keys)
    beside = _Beside(copies.kind)
    if role in chain.root.roles:
        beside.judge(
            SIGNATURE,
            copies.beside[SIGNATURE],
            lambda holder, data: judge_signature(listing, holder, data, roots, role, revoked=revoked),
        )
        beside.judge(
            POST_QUANTUM,
            copies.beside[POST_QUANTUM],
            lambda holder, data: judge_post_quantum(listing, holder, data, roots, role, revoked=revoked),
        )
    verdict = decide(
        listing,
        beside.good.get(SIGNATURE, {}),
        chain.root,
        role,
        post_quantum=beside.good.get(POST_QUANTUM),
        revoked=revoked,
    )
    verdict.require()
    refuse_second_root(digests, root)
    return beside, verdict


def _judge_by_themselves(listing: bytes, copies: Copies, role: str) -> _Beside:
    """The SSH signatures alone, each by the key it names."""

    def judge(_: str, data: bytes) -> None:
        sshsig.verify_signature(sshsig.parse_signature(data), listing, namespace(role))

    beside = _Beside(copies.kind)
    beside.judge(SIGNATURE, copies.beside[SIGNATURE], judge)
    return beside


def _carried_roots(documents: Documents) -> Iterator[Root]:
    """The roots of which a sound copy is there, believed in nothing but whose keys they name."""
    for name in documents.names:
        path = f"{TRUST_FOLDER}/{name}"
        if root_version(path) is not None:
            try:
                yield parse_root(documents.read(path, limit=MAX_ROOT))
            except BundleUntrusted:
                continue


def _refuse_mixture(copies: Copies, lists: Sequence[bytes]) -> None:
    if len(lists) < 2:  # noqa: PLR2004 - one bundle
        return
    places = (
        f"{', '.join(sorted(set(copies.where[each])))}: {hashlib.sha256(each).hexdigest()[:12]}"
        for each in lists
    )
    raise VolumesMixed(
        "these folders are of several bundles",
        found="; ".join(places),
        wanted="volumes or copies of one bundle",
        hint="name only the folders of one bundle",
    )
