"""One root after another: how a verifier that trusts an older root comes to trust a newer one.

Root N+1 follows root N exactly if

1. its version is N + 1: none is left out;
2. the threshold of N's role root signed it, counted among the keys of N;
3. the threshold of its own role root signed it, counted among its own keys: so the new holders have
   their keys, and agreed;
4. its policy is not weaker than N's.

A signature by a key that neither of the two enrols for the role root refuses the link.  Nothing else
ever replaces a root: no clock, no revocation, no file that happens to lie there.  Root 1 is signed by
its own threshold, and believed by the fingerprint that a person typed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.errors import RootInvalid
from appliance.trust.policy import Signatures, judge_signers, too_few
from appliance.trust.root import parse_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.errors import BundleUntrusted
    from appliance.trust.policy import Signer
    from appliance.trust.root import Root


@dataclass(frozen=True, slots=True)
class Link:
    """A root file and the signatures beside it, by holder and key (``alice.3f1c9a2b``)."""

    data: bytes
    signatures: Signatures = field(default_factory=Signatures)


@dataclass(frozen=True, slots=True)
class Judged:
    """A root that was read, who signed it, and the reasons why it may not follow (none: it may)."""

    root: Root
    signers: tuple[Signer, ...]
    refusals: tuple[BundleUntrusted, ...]


@dataclass(frozen=True, slots=True)
class Chain:
    """What following a chain came to: the newest root, its bytes, and each that was followed on the way.

    ``followed`` does not hold the trusted root, where it began; it is empty if that is the newest.
    """

    root: Root
    data: bytes
    followed: tuple[Judged, ...]


def judge_link(before: Root | None, link: Link) -> Judged:
    """Whether a root may follow another.

    Args:
        before: the root it is to follow; None for a first one, which only its own holders sign.
        link: the root and its signatures.

    Raises:
        RootInvalid, KeyRefused: it is no root at all.
    """
    root = parse_root(link.data)
    refusals: list[BundleUntrusted] = []
    wanted = 1 if before is None else before.version + 1
    if root.version != wanted:
        refusals.append(
            RootInvalid(
                "a root does not follow the one before",
                found=f"version {root.version}",
                wanted=f"version {wanted}",
                hint="bring every root between the two, or none",
            )
        )
    if before is not None and any(
        new < old for new, old in zip(root.policy.strength, before.policy.strength, strict=True)
    ):
        refusals.append(
            RootInvalid(
                f"root {root.version} has a weaker policy than root {before.version}",
                found=f"pq {root.policy.pq}, profile {root.policy.profile}",
                wanted=f"at least pq {before.policy.pq}, profile {before.policy.profile}",
            )
        )
    roots = (root,) if before is None else (root, before)
    signers, faults = judge_signers(link.data, link.signatures, roots, "root")
    refusals += faults
    for counted in roots:
        if short := too_few(counted, "root", signers):
            short.message = f"root {root.version}, counted by root {counted.version}: {short.message}"
            refusals.append(short)
    return Judged(root, tuple(signers), tuple(refusals))


def follow(trusted: bytes, carried: Mapping[int, Link]) -> Chain:
    """Follow a chain of roots from the trusted one to the newest.

    Args:
        trusted: the bytes of the root that is trusted.
        carried: the roots at hand by the version in their name; those before the trusted one are
            passed over, as nothing is known of them.

    Raises:
        RootInvalid: another root of the trusted version, a gap, another version than its name says, or
            a link that breaks the rules of this module.
        BundleUntrusted: what is wrong with a link's signatures.
    """
    root, data = parse_root(trusted), trusted
    followed: list[Judged] = []
    if (same := carried.get(root.version)) is not None and same.data != trusted:
        raise RootInvalid(
            f"there is another root {root.version} than the one that is trusted",
            found=f"fingerprint {parse_root(same.data).fingerprint}",
            wanted=f"fingerprint {root.fingerprint}",
            hint="somebody made a second root of this version: ask its holders before using anything",
        )
    newer = sorted(version for version in carried if version > root.version)
    for version in newer:
        link = carried[version]
        judged = judge_link(root, link)
        if judged.refusals:
            raise judged.refusals[0]
        if judged.root.version != version:
            raise RootInvalid(f"root {judged.root.version} lies under the name of root {version}")
        followed.append(judged)
        root, data = judged.root, link.data
    return Chain(root, data, tuple(followed))
