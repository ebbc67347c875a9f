"""What ``appliance verify --explain`` prints: what was checked, by which key of whom, and what was not."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from appliance.bundle.list_kind import INDEX
from appliance.trust.root import parse_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.verify import VerifiedBundle
    from appliance.trust.policy import Signer
    from appliance.trust.root import Root


def explanation(bundle: VerifiedBundle, trusted: bytes, *, typed: bool) -> str:
    """The steps of the verification, in the order in which they were made.

    Args:
        bundle: what was verified.
        trusted: the bytes of the root that was given.
        typed: whether its fingerprint was given too.
    """
    steps = [
        *_root(trusted, typed=typed),
        *_chain(bundle),
        *_revocation(bundle),
        *_signatures(bundle),
        *_contents(bundle),
        *_upstream(bundle),
    ]
    lines = [f"{number}. {step}" for number, step in enumerate(steps, 1)]
    return "\n".join(
        [*lines, "", "Not checked, because nobody can without a memory, a clock or a source:", *_LEFT]
    )


_LEFT = (
    "-  whether a newer bundle exists: a node refuses to go back, a verifier has no memory",
    "-  what time it is, and so whether the bundle is past its date",
    "-  whether a key or the bundle was revoked by a list that was not given",
    "-  whether the software is any good",
)


def _root(trusted: bytes, *, typed: bool) -> Iterator[str]:
    root = parse_root(trusted)
    compared = "which you typed" if typed else "compare it with your paper: nothing else vouches for it"
    yield f"Root {root.version}, fingerprint {hashlib.sha256(trusted).hexdigest()}, {compared}."


def _chain(bundle: VerifiedBundle) -> Iterator[str]:
    for judged in bundle.followed:
        root = judged.root
        needed = f"{root.roles['root'].threshold} of {len(root.holders('root'))}"
        people = _people(root, judged.signers)
        yield f"Root {root.version} follows: {people}; enough by the root before, and by itself ({needed})."


def _revocation(bundle: VerifiedBundle) -> Iterator[str]:
    taken = bundle.revocation
    if taken.serial:
        yield (
            f"Revocation {taken.serial}, signed by the role revoke: {len(taken.keys)} keys and "
            f"{len(taken.bundles)} bundles taken back; no signer's key and not this bundle."
        )
    else:
        yield "No revocation was given, and the bundle carries none."


def _signatures(bundle: VerifiedBundle) -> Iterator[str]:
    rule = bundle.root.roles[bundle.role]
    holders = bundle.root.holders(bundle.role)
    yield (
        f"{bundle.kind}, {bundle.kind.algorithm} {bundle.signed_digest}, the list that the profile "
        f"{bundle.root.policy.profile} has signed, signed as {bundle.role}: "
        f"{_people(bundle.root, bundle.signers)}. {rule.threshold} of {', '.join(holders)} were needed. "
        f"Every signature that is there was good."
    )


def _contents(bundle: VerifiedBundle) -> Iterator[str]:
    manifest = bundle.manifest
    yield (
        f"Exactly the {len(bundle.files):,} listed files are there, each a plain file under one name; "
        "manifest.json names the same ones, with the same digests and sizes."
    )
    if bundle.provenance:
        people = ", ".join(bundle.provenance)
        yield f"What it was built from, as stated by {people}: it follows from manifest.json."
    hashes = " and ".join(kind.title for kind in bundle.files.lists.kinds)
    yield f"Each of {bundle.size:,} bytes was hashed with {hashes} and is what was signed."
    yield (
        f"So this is {manifest.product} {manifest.version}, sequence {manifest.sequence}, locked "
        f"{manifest.created}"
        + (f", good until {manifest.expires}" if manifest.expires else "")
        + f"; everywhere it is known by the SHA-256 of {INDEX}: {bundle.digest}."
    )


def _upstream(bundle: VerifiedBundle) -> Iterator[str]:
    for found in bundle.upstream:
        if found.judged.unchecked:
            yield f"The makers' signature {found.path} was not checked: {found.judged.unchecked}."
        else:
            yield (
                f"The makers' signature of a model holds, by the key that the manifest names and over its "
                f"digests; it counts for no threshold. {found.text}."
            )


def _people(root: Root, signers: Sequence[Signer]) -> str:
    """Names with their keys."""

    def described(one: Signer) -> str:
        entry = root.keys.get(one.keyid)  # in a later root, a key of the one before may be gone
        kind = entry.key.algorithm if entry else "a former key"
        second = " and ML-DSA-87" if one.post_quantum else ""
        return f"{one.holder} with {kind} {one.fingerprint}{second}"

    return ", ".join(map(described, signers))
