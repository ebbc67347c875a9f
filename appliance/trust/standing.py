"""How far a document is: who signed it, by which root they count, and who could still sign.

A root of version 1 is judged by itself, which proves that its holders have their keys and nothing more.
Root N+1 is judged by root N and by itself (``appliance.trust.chain``), everything else by one root
(``appliance.trust.policy``).  Both decide here; this module only puts what they say into one form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import SignerUnknown, ThresholdNotMet, Usage
from appliance.trust.chain import Link, judge_link
from appliance.trust.kinds import parse_document, role_of
from appliance.trust.policy import counting, decide, too_few
from appliance.trust.root import Root

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from appliance.errors import BundleUntrusted
    from appliance.trust.documents import SignedDocument
    from appliance.trust.kinds import Document
    from appliance.trust.policy import Signer


@dataclass(frozen=True, slots=True)
class Count:
    """The signatures as one root counts them.

    ``half`` are holders whose ML-DSA signature lacks where it is required; ``missing`` are all who could
    still sign so that they count.
    """

    version: int
    role: str
    threshold: int
    signed: tuple[str, ...]
    half: tuple[str, ...]
    missing: tuple[str, ...]
    enough: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """A document, who signed it, and every reason against it but that too few signed."""

    document: Document
    role: str
    signers: tuple[Signer, ...]
    counts: tuple[Count, ...]
    refusals: tuple[BundleUntrusted, ...]
    notes: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        return not self.refusals and all(count.enough for count in self.counts)

    def require(self, name: str) -> None:
        """Refuse a document that does not count.

        Raises:
            ThresholdNotMet: signatures are missing; it says whose.
            BundleUntrusted: the first other reason against it.
        """
        if self.refusals:
            self.refusals[0].message = f"{name}: {self.refusals[0].message}"
            raise self.refusals[0]
        if short := [count for count in self.counts if not count.enough]:
            raise ThresholdNotMet(
                f"{name}: signatures are missing",
                found="; ".join(_found(count) for count in short),
                wanted="; ".join(
                    f"{count.threshold} in the role {count.role} of root {count.version}" for count in short
                ),
                hint="; ".join(
                    f"have {count.threshold - len(count.signed)} of these sign for root {count.version}: "
                    f"{', '.join(count.missing) or 'nobody is left'}"
                    for count in short
                ),
            )


def judge_document(
    signed: SignedDocument, root: Root | None, *, revoked: Collection[str] = frozenset()
) -> Standing:
    """How far a document is.

    Args:
        signed: the document, and the signatures beside it.
        root: the root whose keys count; of root N+1 the root N; None for a root of version 1.
        revoked: keys that sign nothing any more, but roots.

    Raises:
        BundleUntrusted: it is no document.
        Usage: a root is missing, or it is the wrong one.
    """
    document = parse_document(signed.data)
    if not isinstance(document, Root):
        if root is None:
            raise Usage("nothing says whose keys count", wanted="--root root.N.json")
        role = role_of(document, root)
        given = signed.signatures
        verdict = decide(
            signed.data, given.ssh, root, role, post_quantum=given.post_quantum, revoked=revoked
        )
        counts = (_count(root, role, verdict.signers),) if role in root.roles else ()
        return Standing(document, role, verdict.signers, counts, _others(verdict.refusals), verdict.notes)
    before = root_before(document, root)
    judged = judge_link(before, Link(signed.data, signed.signatures))
    roots = (document,) if before is None else (before, document)
    counted = tuple(_count(each, "root", judged.signers) for each in roots)
    return Standing(document, "root", judged.signers, counted, _others(judged.refusals))


def root_before(document: Root, root: Root | None) -> Root | None:
    """The root by which a root is judged besides itself; None for a first one.

    Raises:
        Usage: it is not the one given.
    """
    if document.version == 1:
        return None
    if root is None or root.version != document.version - 1:
        raise Usage(
            f"root {document.version} is judged by root {document.version - 1}",
            found="no root" if root is None else f"root {root.version}",
            wanted=f"--root root.{document.version - 1}.json",
        )
    return root


def roots_for(document: Document, root: Root | None) -> tuple[Root, ...]:
    """The roots by whose keys a document may be signed.

    Raises:
        Usage: the root that is needed is not given.
        SignerUnknown: the root gives nobody the role.
    """
    if isinstance(document, Root):
        before = root_before(document, root)
        return (document,) if before is None else (before, document)
    if root is None:
        raise Usage("nothing says whose keys count", wanted="--root root.N.json")
    if (role := role_of(document, root)) not in root.roles:
        raise SignerUnknown(f"the root gives nobody the role {role}", found=", ".join(root.roles))
    return (root,)


def _count(root: Root, role: str, signers: Sequence[Signer]) -> Count:
    rule = root.roles[role]
    signed = {one.holder for one in counting(root, role, signers)}
    half = {one.holder for one in signers if one.keyid in rule.keys} - signed
    return Count(
        root.version,
        role,
        rule.threshold,
        tuple(sorted(signed)),
        tuple(sorted(half)),
        tuple(sorted(set(root.holders(role)) - signed)),
        too_few(root, role, signers) is None,
    )


def _found(count: Count) -> str:
    lacking = f", without the ML-DSA signature: {', '.join(count.half)}" if count.half else ""
    return f"{len(count.signed)} for root {count.version}: {', '.join(count.signed) or 'nobody'}{lacking}"


def _others(refusals: Sequence[BundleUntrusted]) -> tuple[BundleUntrusted, ...]:
    return tuple(each for each in refusals if not isinstance(each, ThresholdNotMet))
