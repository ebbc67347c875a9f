"""Every node is asked, by what it remembers, whether a bundle may be installed on it now.

The questions are ``appliance.trust.node_rules``; here they are put: journals are read, statements judged by
each node's own revocations, answers collected.  Nothing is changed on any node.
"""

from __future__ import annotations

import datetime as dt
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError, BundleStale, JournalLost, KeyRevoked
from appliance.node.journal import USUAL, read_journal
from appliance.trust.installation import begin_journal, decide_installation
from appliance.trust.journal import KnownRoot
from appliance.trust.node_rules import Authority, Candidate, Statements
from appliance.trust.revocation import NOTHING
from appliance.trust.signed import judge_statements
from appliance.trust.statements import time_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle
    from appliance.definition.inventory import Inventory
    from appliance.node.connection import Connection
    from appliance.node.journal import Kept, Place
    from appliance.trust.documents import SignedDocument
    from appliance.trust.installation import Decision
    from appliance.trust.journal import Journal
    from appliance.trust.policy import Signer
    from appliance.trust.revocation import Revocation
    from appliance.trust.root import Root


@dataclass(frozen=True)
class Question:
    """A verified bundle, by what it was judged, and the documents at hand; ``time`` is this station's."""

    bundle: Candidate
    signers: tuple[Signer, ...]
    root: Root
    authority: Authority
    documents: Mapping[str, SignedDocument]
    time: float


@dataclass(frozen=True)
class Answer:
    """What one node said: reasons against, notes, and its next states if it could be asked at all."""

    node: str
    refusals: tuple[ApplianceError, ...]
    notes: tuple[str, ...] = ()
    kept: Kept | None = None
    decision: Decision | None = None
    before: Journal | None = None

    @property
    def begins(self) -> bool:
        """Whether the node begins a new journal with this installation."""
        return self.kept is not None and self.before is not self.kept.journal

    @property
    def commits_now(self) -> bool:
        """Whether there is something to keep before anything is staged."""
        return self.decision is not None and (self.begins or self.decision.now != self.before)

    @property
    def commits_afterwards(self) -> bool:
        """Whether there is something to keep after qualification."""
        return self.decision is not None and self.decision.afterwards != self.decision.now

    def as_dict(self) -> dict[str, object]:
        """For records: what the node remembered, and what was decided."""
        values: dict[str, object] = {
            "notes": list(self.notes),
            "refused": [each.as_dict() for each in self.refusals],
        }
        if self.decision is None or self.before is None:
            return values
        product = [name for name in self.decision.afterwards.products if name in self.before.products]
        return values | {
            "journal": self.before.identity,
            "begins": self.begins,
            "root": {"version": self.before.root.version, "sha256": self.before.root.sha256},
            "sequences": {name: self.before.products[name].sequence for name in sorted(product)},
            "revocation": self.before.revocation.serial,
            "floor": {"before": self.before.floor, "after": self.decision.now.floor},
        }


def make_question(bundle: VerifiedBundle, *, statements: Path | None, time: float) -> Question:
    """What is asked of every node.

    Args:
        bundle: what is to be installed.
        statements: a folder of documents with their signatures.
        time: this station's clock.

    Raises:
        Usage, FileUnexpected, BundleMalformed: the folder or something in it cannot be read.
    """
    from appliance.bundle.documents import read_folder

    root, manifest = bundle.root, bundle.manifest
    return Question(
        bundle=Candidate(
            digest=bundle.digest,
            product=manifest.product,
            version=manifest.version,
            sequence=manifest.sequence,
            issued=manifest.created,
            expires=manifest.expires,
        ),
        signers=bundle.signers,
        root=root,
        authority=Authority(
            KnownRoot(root.version, bundle.root_digest),
            sites="site" in root.roles,
            revocation=bundle.revocation,
        ),
        documents={path.name: each for path, each in read_folder(statements)} if statements else {},
        time=time,
    )


def ask_nodes(
    connections: Mapping[str, Connection], question: Question, place: Place = USUAL
) -> dict[str, Answer]:
    """Ask every node at the same time; changes nothing, and raises nothing about a node."""

    def ask(connection: Connection) -> Answer:
        name = connection.node.name
        try:
            return judge_node(name, read_journal(connection, place), question)
        except ApplianceError as fault:
            return Answer(name, (fault,))

    with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
        return dict(zip(connections, pool.map(ask, connections.values()), strict=True))


def read_journals(inventory: Inventory, limit: Sequence[str] = (), place: Place = USUAL) -> dict[str, Kept]:
    """What the nodes of a site keep, by their names; changes nothing.

    Raises:
        ApplianceError: a node could not be asked.
    """
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder
    from appliance.node.site import select_nodes

    with private_folder() as private:
        connections = open_connections(inventory, select_nodes(inventory, limit), private)
        try:
            with ThreadPoolExecutor(max_workers=16) as pool:
                kept = pool.map(lambda each: read_journal(each, place), connections.values())
                return dict(zip(connections, kept, strict=True))
        finally:
            for connection in connections.values():
                connection.close()


def judge_node(node: str, kept: Kept, question: Question) -> Answer:
    """Decide for one node: pure, but for the identity of a journal that begins.

    Raises:
        BundleUntrusted: a statement at hand is not signed as it has to be.
        JournalLost, JournalRolledBack: the node cannot tell new from old, and no enrolment is at hand.
    """
    newest = _newer(question.authority.revocation, kept.journal)
    given = judge_statements(question.documents, question.root, revoked=newest.keys)
    before = _journal(node, kept, question.authority, given)
    given, notes = _for_node(node, before, given)
    decision = decide_installation(before, node, question.bundle, question.authority, given)
    clocks = {"this station": question.time, node: kept.time}
    return Answer(
        node=node,
        refusals=(*_revoked_signers(question.signers, newest), *decision.refusals),
        notes=(
            *kept.notes,
            *notes,
            *decision.notes,
            *clock_notes(decision.now.floor, question.bundle.expires, clocks),
        ),
        kept=kept,
        decision=decision,
        before=before,
    )


def refuse(answers: Mapping[str, Answer]) -> None:
    """Raise the gravest reason against, if any node has one.

    Raises:
        BundleStale: the bundle is past its date, and nothing else is wrong with it.
        ApplianceError: the first of the other reasons.
    """
    against = [(answer.node, each) for answer in answers.values() for each in answer.refusals]
    if not against:
        return
    node, worst = min(against, key=lambda pair: isinstance(pair[1], BundleStale))
    if not worst.message.startswith(f"{node}: "):
        worst.message = f"{node}: {worst.message}"
    raise worst


def clock_notes(floor: str, expires: str | None, clocks: Mapping[str, float]) -> list[str]:
    """What is odd about clocks (seconds since 1970, by whose they are); they decide nothing."""
    notes = []
    for name, seconds in clocks.items():
        try:
            time = time_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
        except (ValueError, OverflowError, OSError):
            notes.append(f"the clock of {name} says nothing that is a time")
            continue
        if time < floor:
            notes.append(f"the clock of {name} says {time}, and it is {floor} or later")
        elif expires is not None and time > expires:
            notes.append(f"by the clock of {name}, {time}, the bundle is past its date ({expires})")
    return notes


def _newer(brought: Revocation, journal: Journal | None) -> Revocation:
    known = NOTHING if journal is None else journal.revocation
    return max(known, brought, key=lambda each: each.serial)


def _revoked_signers(signers: Sequence[Signer], revocation: Revocation) -> list[ApplianceError]:
    """The bundle was verified by what this station knew; the node may know more."""
    return [
        KeyRevoked(
            f"the bundle is signed by a key of {one.holder} that was revoked",
            found=keyid,
            wanted="signatures by keys that still count",
            hint="have its makers sign it again with other keys",
        )
        for one in signers
        for keyid in (one.keyid, *one.post_quantum)
        if keyid in revocation.keys
    ]


def _journal(node: str, kept: Kept, authority: Authority, given: Statements) -> Journal:
    """The node's journal, or the one it begins."""
    if kept.journal is not None and kept.trouble is None:
        return kept.journal
    # An enrolment that the old state remembers was used: whoever put that state back may not use it again.
    used = () if kept.journal is None else kept.journal.nonces
    fresh = replace(given, enrolments=[each for each in given.enrolments if each.nonce not in used])
    try:
        return begin_journal(
            secrets.token_hex(16), node, authority, fresh, was_installed=kept.was_installed
        )
    except JournalLost as lost:
        raise kept.trouble or lost from None


def _for_node(node: str, journal: Journal, given: Statements) -> tuple[Statements, list[str]]:
    """The statements at hand without the times for other nodes and those that were used.

    A folder may hold a time for each node of a site, and the same command may be run again; neither is a
    reason against an installation.
    """
    mine = [each for each in given.times if each.statement.node == node]
    fresh = [each for each in mine if each.statement.nonce not in journal.nonces]
    used = [each.statement.time for each in mine if each not in fresh]
    return replace(given, times=fresh), [f"the attested time {time} was used before" for time in used]
