"""Whether a bundle may be installed on a node now: one pure decision, with the node's two next states.

What was decided before: enough holders signed the bundle, by the newest root of its chain
(``appliance.trust.policy``, ``appliance.trust.chain``).  What is asked here stands in
``appliance.trust.node_rules``.

Root, revocation and floor are kept at once (``now``): what was learnt stays learnt, even if the
installation fails.  Sequence and nonces are kept after qualification only (``afterwards``): so a bundle
that does not work does not bar the way back to the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import JournalLost
from appliance.trust.journal import Journal
from appliance.trust.node_rules import Authority, Candidate, Case, Statements, judge
from appliance.trust.statements import FORGOTTEN, Release

if TYPE_CHECKING:
    from appliance.errors import ApplianceError


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome: reasons against (none: go on), what to tell, and the node's next states."""

    refusals: tuple[ApplianceError, ...]
    notes: tuple[str, ...]
    now: Journal
    afterwards: Journal

    def require(self) -> None:
        """Raise the first reason against, if there is one."""
        if self.refusals:
            raise self.refusals[0]


def begin_journal(
    identity: str, node: str, authority: Authority, given: Statements, *, was_installed: bool
) -> Journal:
    """The first state of a node that has no journal.

    Args:
        identity: 32 hex digits, random.
        node: the node's name.
        authority: by what it will be judged.
        given: statements at hand; of them an enrolment, if one is needed.
        was_installed: whether an installation was finished on the node before.

    Raises:
        JournalLost: it was installed, and no enrolment lets it begin anew.
    """
    if not was_installed:
        return Journal(identity, authority.root)
    for enrolment in given.enrolments:
        if enrolment.node == node:
            floors = {name: Release(number, FORGOTTEN) for name, number in enrolment.products.items()}
            return Journal(identity, authority.root, products=floors, nonces=(enrolment.nonce,))
    raise journal_lost("no sound journal")


def journal_lost(found: str) -> JournalLost:
    """The error for a node that was installed and has forgotten what; ``found`` is what is left of it."""
    return JournalLost(
        "the node was installed, and its journal is gone: it cannot tell an old bundle from a new one",
        found=found,
        wanted="the journal, or an enrolment for this node",
        hint="find out who took it away; then: appliance trust enrol, signed by the site",
    )


def decide_installation(
    journal: Journal, node: str, bundle: Candidate, authority: Authority, given: Statements
) -> Decision:
    """Judge the installation of a bundle on a node.

    Args:
        journal: what the node remembers.
        node: its name.
        bundle: what is to be installed; enough holders signed it.
        authority: by what that was judged.
        given: statements at hand, each signed as its type asks.
    """
    case = Case(journal, node, bundle, authority, given)
    floor = judge(case)
    now = journal.following(
        root=max(journal.root, authority.root, key=lambda each: each.version),
        revocation=max(journal.revocation, authority.revocation, key=lambda each: each.serial),
        floor=floor,
    )
    afterwards = now.following(
        products={**now.products, bundle.product: bundle.release},
        nonces=tuple(sorted({*now.nonces, *case.used})),
    )
    return Decision(tuple(case.refusals), tuple(case.notes), now, afterwards)
