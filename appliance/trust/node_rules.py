"""What a node asks of a bundle, beyond its signatures; the order is that of the questions.

1. *Root.*  Its version is not below the one the node has seen; the same version is the same file.
2. *Revocation.*  Its serial is not below the one the node has seen, and it holds all that one held; the
   same serial says the same.  The bundle is not revoked, by either.
3. *Sequence.*  Higher than the product's on the node, or the same with the same digest.  Lower needs a
   permit for exactly this step of this node.  The same number with another digest is refused always:
   somebody built two bundles of one number.
4. *Admission.*  If the root has the role site, an admission names the bundle and this node.
5. *Time.*  The floor becomes the highest of what it was, the bundle's date of issue, and attested times.
   It goes up by 400 days in one step at most; a time further off is taken only if two holders of the role
   time attest it, and of a bundle's date no more than the step is believed.  If the floor has passed the
   bundle's expiry, a waiver for this bundle and node is needed.  No clock decides anything.
6. *Nonces.*  A permit, waiver or time whose nonce was used does not count, nor one for another journal.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from appliance.errors import (
    BundleRevoked,
    BundleStale,
    NotAdmitted,
    RevocationInvalid,
    RollbackRefused,
    StatementInvalid,
)
from appliance.trust.journal import EPOCH, MAX_NONCES, Journal, KnownRoot
from appliance.trust.revocation import NOTHING, Revocation
from appliance.trust.statements import (
    LATEST,
    Admission,
    Enrolment,
    Permit,
    Release,
    Time,
    Waiver,
    parse_time,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.errors import ApplianceError

_OneTime = TypeVar("_OneTime", Permit, Waiver)

#: The most that the floor goes up in one step: one wrong date must not lock out all that follows.
LONGEST_STEP: Final = dt.timedelta(days=400)
#: Holders who must attest a time further off than that.
FOR_A_LEAP: Final = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A bundle that enough holders signed: what of it matters to a node."""

    digest: str
    product: str
    version: str
    sequence: int
    issued: str
    expires: str | None = None

    @property
    def release(self) -> Release:
        return Release(self.sequence, self.digest)


@dataclass(frozen=True, slots=True)
class Authority:
    """By what a bundle was judged: the newest root, whether it has the role site, the newest revocation."""

    root: KnownRoot
    sites: bool
    revocation: Revocation = NOTHING


@dataclass(frozen=True, slots=True)
class Attested:
    """A time, and how many distinct holders attest it."""

    statement: Time
    holders: int


@dataclass(frozen=True, slots=True)
class Statements:
    """Those at hand, each signed as its type asks (``appliance.trust.statements``)."""

    admissions: Sequence[Admission] = ()
    permits: Sequence[Permit] = ()
    waivers: Sequence[Waiver] = ()
    times: Sequence[Attested] = ()
    enrolments: Sequence[Enrolment] = ()


@dataclass(slots=True)
class Case:
    """One question to one node, and what became of it: reasons against, notes, nonces that were used."""

    journal: Journal
    node: str
    bundle: Candidate
    authority: Authority
    given: Statements
    refusals: list[ApplianceError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)

    def is_for_us(self, statement: Permit | Waiver | Time) -> bool:
        """Whether a statement is for this node and journal, and was not used."""
        return (
            statement.node == self.node
            and statement.journal == self.journal.identity
            and statement.nonce not in self.journal.nonces
        )

    def is_let_by(self, given: Sequence[_OneTime], fits: Callable[[_OneTime], bool], what: str) -> bool:
        """Whether a statement at hand fits and is for us; its nonce is used then, and ``what`` noted."""
        for statement in given:
            if fits(statement) and self.is_for_us(statement):
                self.used.append(statement.nonce)
                self.notes.append(f"{what}: {statement.reason}")
                return True
        return False

    def ask_for(self, command: str, statements: Sequence[Permit | Waiver]) -> str:
        """How to ask for a statement that helps; and why none of those at hand did, if there are any."""
        if not statements:
            return command
        why = "is for another step or bundle"
        if any(each.nonce in self.journal.nonces for each in statements):
            why = "was used before: each is good for one time"
        elif any(each.node != self.node or each.journal != self.journal.identity for each in statements):
            why = "is for another node, or for an earlier journal of this one"
        return f"the one at hand {why}; ask for another: {command}"


def judge(case: Case) -> str:
    """Ask everything; the reasons against are added to the case.  Returns the node's new floor."""
    _ask_root(case)
    _ask_revocation(case)
    _ask_sequence(case)
    _ask_admission(case)
    floor = _ask_times(case)
    _ask_expiry(case, floor)
    if len({*case.journal.nonces, *case.used}) > MAX_NONCES:
        case.refusals.append(
            StatementInvalid(
                "the node can remember no more nonces",
                found=str(len(case.journal.nonces)),
                wanted=f"at most {MAX_NONCES}",
                hint="enrol it anew: appliance trust enrol",
            )
        )
    return floor


def _ask_root(case: Case) -> None:
    refusal = root_refusal(case.journal.root, case.authority.root)
    if refusal is not None:
        case.refusals.append(refusal)


def root_refusal(known: KnownRoot, root: KnownRoot) -> RollbackRefused | None:
    """Why a node that knows one root is not to be judged by another; None where it may be."""
    if root.version < known.version:
        return RollbackRefused(
            "the node has seen a newer root",
            found=f"root {root.version}",
            wanted=f"root {known.version} ({known.sha256}) or one that follows it",
            hint="bring the newer root's chain with --roots, or a bundle that carries it",
        )
    if root.version == known.version and root != known:
        return RollbackRefused(
            f"the node knows another root {root.version}",
            found=f"fingerprint {root.sha256}",
            wanted=f"fingerprint {known.sha256}",
            hint="somebody made a second root of this version: ask its holders before using anything",
        )
    return None


def _ask_revocation(case: Case) -> None:
    known, brought = case.journal.revocation, case.authority.revocation
    if brought.serial > known.serial and not brought.includes(known):
        case.refusals.append(
            RevocationInvalid(
                "a newer revocation gives something back",
                found=f"serial {brought.serial}",
                wanted=f"all that serial {known.serial} revoked, and more",
                hint="ask the holders of the role revoke",
            )
        )
    if brought.serial == known.serial and brought != known:
        case.refusals.append(
            RevocationInvalid(
                f"the node knows another revocation {known.serial}",
                hint="somebody made two of one serial: ask the holders of the role revoke",
            )
        )
    try:
        known.require_bundle(case.bundle.digest)
        brought.require_bundle(case.bundle.digest)
    except BundleRevoked as refusal:
        case.refusals.append(refusal)


def _ask_sequence(case: Case) -> None:
    bundle, known = case.bundle, case.journal.products.get(case.bundle.product)
    if known is None or bundle.sequence > known.sequence:
        return
    if bundle.sequence == known.sequence:
        if known.is_known and bundle.digest != known.digest:
            case.refusals.append(
                RollbackRefused(
                    f"there is another bundle of {bundle.product} with the sequence {bundle.sequence}",
                    found=bundle.digest,
                    wanted=known.digest,
                    hint="somebody built two bundles of one number: find out which is the right one",
                )
            )
        return
    step = (bundle.product, known, bundle.release)
    if case.is_let_by(
        case.given.permits,
        lambda permit: (permit.product, permit.before, permit.after) == step,
        f"back from {known.sequence} to {bundle.sequence} by permit",
    ):
        return
    command = (
        f"appliance trust permit --node {case.node} --journal {case.journal.identity} "
        f"--product {bundle.product} --from {known.sequence}:{known.digest} "
        f"--to {bundle.sequence}:{bundle.digest} --reason WHY --out DIR"
    )
    case.refusals.append(
        RollbackRefused(
            f"the node has {bundle.product} {known.sequence}, and does not go back",
            found=f"sequence {bundle.sequence}",
            wanted=f"a sequence above {known.sequence}, or a permit for this very step",
            hint=case.ask_for(command, case.given.permits),
        )
    )


def _ask_admission(case: Case) -> None:
    digest, given = case.bundle.digest, case.given.admissions
    if not case.authority.sites or any(each.admits(digest, case.node) for each in given):
        return
    named = sorted({name for each in given if each.bundle == digest for name in each.nodes})
    case.refusals.append(
        NotAdmitted(
            f"the site has not admitted this bundle to {case.node}",
            found=f"admitted to {', '.join(named)}" if named else "no admission of this bundle",
            wanted="an admission signed by the role site",
            hint=f"appliance trust admit FOLDER --node {case.node} --out DIR, of the bundle or its patch",
        )
    )


def _ask_times(case: Case) -> str:
    """The new floor."""
    floor = case.journal.floor
    for attested in case.given.times:
        statement = attested.statement
        if not case.is_for_us(statement):
            case.refusals.append(
                StatementInvalid(
                    "an attested time is for another node or journal, or was used before",
                    found=f"node {statement.node}, journal {statement.journal}",
                    wanted=f"node {case.node}, journal {case.journal.identity}, a new nonce",
                )
            )
        elif _highest(floor) < statement.time and attested.holders < FOR_A_LEAP:
            case.refusals.append(
                StatementInvalid(
                    "an attested time is too far off for one holder's word",
                    found=statement.time,
                    wanted=f"at most {_highest(floor)}, or {FOR_A_LEAP} holders of the role time",
                )
            )
        else:
            case.used.append(statement.nonce)
            floor = max(floor, statement.time)
    if case.bundle.issued > (most := _highest(floor)):
        case.notes.append(f"issued {case.bundle.issued}, more than 400 days after the node's floor {floor}")
        return most
    return max(floor, case.bundle.issued)


def _highest(floor: str) -> str:
    """How far one step may raise a floor; the first may be of any length."""
    if floor == EPOCH:
        return LATEST
    try:
        return time_text(parse_time(floor) + LONGEST_STEP)
    except OverflowError:
        return LATEST


def _ask_expiry(case: Case, floor: str) -> None:
    bundle = case.bundle
    if bundle.expires is None or floor <= bundle.expires:
        return
    if case.is_let_by(
        case.given.waivers,
        lambda waiver: waiver.bundle == bundle.digest,
        f"past its date ({bundle.expires}), by waiver",
    ):
        return
    command = (
        f"appliance trust waive --node {case.node} --journal {case.journal.identity} "
        f"--bundle {bundle.digest} --reason WHY --out DIR"
    )
    case.refusals.append(
        BundleStale(
            "everything verified, but the bundle is past its date",
            found=f"expired {bundle.expires}; it is {floor} or later",
            wanted="a newer bundle, or a waiver for this one",
            hint=case.ask_for(command, case.given.waivers),
        )
    )
