"""Statements count as their roles signed them: one good folder, one thing changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import (
    KeyRevoked,
    SignatureInvalid,
    SignerUnknown,
    StatementInvalid,
    ThresholdNotMet,
)
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import compose
from appliance.trust.policy import Signatures
from appliance.trust.revocation import Revocation, revocation_bytes
from appliance.trust.root import Policy, Root, root_bytes
from appliance.trust.signed import judge_statements
from appliance.trust.statements import (
    Admission,
    DrivePermit,
    Enrolment,
    Permit,
    Release,
    Statement,
    Time,
    Waiver,
    role_for,
    statement_bytes,
    statement_name,
)
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from appliance.trust.node_rules import Statements

A, B = "a" * 64, "b" * 64
NONCE, IDENTITY, NODE = "1" * 64, "5" * 32, "gpu-01"
ALICE, BOB, SITE, GUARD, CLOCK, WATCH = map(Person, ("alice", "bob", "site", "guard", "clock", "watch"))
MAKERS = [*ALICE.enrolled("root", "release", "revoke"), *BOB.enrolled("root", "release", "revoke")]
OTHERS = [*SITE.enrolled("site"), *CLOCK.enrolled("time"), *WATCH.enrolled("time")]
OTHERS += GUARD.enrolled("site")
ROOT = compose([*MAKERS, *OTHERS])
WITHOUT_SITE = compose([*MAKERS, *CLOCK.enrolled("time"), *WATCH.enrolled("time")])
SIGNS = {"site": (SITE,), "release": (ALICE, BOB), "time": (CLOCK,)}

ADMISSION = Admission(A, "demo", "1.0.0", 8, (NODE,))
PERMIT = Permit(NODE, IDENTITY, NONCE, "demo", Release(8, B), Release(7, A), "it does not start")
WAIVER = Waiver(NODE, IDENTITY, NONCE, A, "nothing newer is here")
TIME = Time(NODE, IDENTITY, NONCE, "2026-12-01T00:00:00Z")
ENROLMENT = Enrolment(NODE, NONCE, "a new disk", {"demo": 7})
#: Judged as all others, and nothing that an installation asks for.
DRIVES = DrivePermit(NODE, "enroll", {"S1": "nothing"}, "2026-01-31T12:00:00Z", NONCE, "rack 4")
EVERY = (ADMISSION, PERMIT, WAIVER, TIME, ENROLMENT, DRIVES)


def document(statement: Statement, *people: Person, root: Root = ROOT, role: str = "") -> SignedDocument:
    role = role or role_for(statement, root)
    data = statement_bytes(statement)
    return SignedDocument(data, signed(data, role, *(people or SIGNS[role])))


def judged(*documents: SignedDocument, root: Root = ROOT, revoked: tuple[str, ...] = ()) -> Statements:
    named = {f"file {number}": each for number, each in enumerate(documents)}
    return judge_statements(named, root, revoked=revoked)


@pytest.mark.parametrize("root", [ROOT, WITHOUT_SITE], ids=["site", "no site"])
def test_each_statement_counts_by_its_role(root: Root) -> None:
    """Without the role site, waivers and enrolments are for release."""
    wanted = [each for each in EVERY if root is ROOT or each is not ADMISSION]
    given = judged(*(document(each, root=root) for each in wanted), root=root)
    assert list(given.permits) == [PERMIT]
    assert list(given.waivers) == [WAIVER]
    assert list(given.enrolments) == [ENROLMENT]
    assert [each.statement for each in given.times] == [TIME]
    assert list(given.admissions) == ([ADMISSION] if root is ROOT else [])


@pytest.mark.parametrize("statement", EVERY, ids=statement_name)
def test_no_statement_counts_by_another_role(statement: Statement) -> None:
    right = role_for(statement, ROOT)
    for role, people in SIGNS.items():
        if role != right:
            with pytest.raises((SignerUnknown, SignatureInvalid)):
                judged(document(statement, *people, role=role))


@pytest.mark.parametrize("statement", EVERY, ids=statement_name)
def test_a_statement_nobody_signed_is_refused_with_its_file(statement: Statement) -> None:
    unsigned = SignedDocument(statement_bytes(statement), Signatures())
    with pytest.raises(ThresholdNotMet) as refused:
        judged(unsigned)
    assert refused.value.message.startswith("file 0: ")


def test_one_of_two_holders_of_release_permits_nothing() -> None:
    with pytest.raises(ThresholdNotMet):
        judged(document(PERMIT, ALICE))


def test_a_statement_that_was_changed_is_refused_though_others_are_good() -> None:
    good = document(PERMIT)
    changed = statement_bytes(replace(PERMIT, node="gpu-02"))
    with pytest.raises(SignatureInvalid) as refused:
        judged(document(WAIVER), replace(good, data=changed))
    assert refused.value.message.startswith("file 1: ")


def test_a_revoked_key_says_nothing_more() -> None:
    with pytest.raises(KeyRevoked):
        judged(document(WAIVER), revoked=(SITE.key.keyid,))


def test_times_count_distinct_holders() -> None:
    assert [each.holders for each in judged(document(TIME)).times] == [1]
    assert [each.holders for each in judged(document(TIME, CLOCK, WATCH)).times] == [2]
    again = Person("clock")
    root = compose([*MAKERS, *CLOCK.enrolled("time"), *again.enrolled("time"), *WATCH.enrolled("time")])
    assert [each.holders for each in judged(document(TIME, CLOCK, again), root=root).times] == [1]


def test_where_two_signatures_are_required_a_holder_counts_with_both() -> None:
    people = (ALICE, BOB, CLOCK, WATCH)
    roles = {ALICE: ("root", "release"), BOB: ("root", "release")}
    enrolled = [one for each in people for one in each.enrolled(*roles.get(each, ("time",)), second=True)]
    root = compose(enrolled, policy=Policy("require"))
    data = statement_bytes(TIME)
    both, half = signed(data, "time", CLOCK, second=True), signed(data, "time", WATCH)
    mixed = SignedDocument(data, Signatures({**both.ssh, **half.ssh}, both.post_quantum))
    assert [each.holders for each in judged(mixed, root=root).times] == [1]


def test_what_is_no_statement_is_passed_over_if_something_else_reads_it() -> None:
    revocation = SignedDocument(revocation_bytes(Revocation(1, (A,), ())), Signatures())
    given = judged(SignedDocument(root_bytes(ROOT), Signatures()), revocation, document(WAIVER))
    assert list(given.waivers) == [WAIVER]


@pytest.mark.parametrize(
    "data", [b"", b"{}", b'{"format":1,"type":"order"}', statement_bytes(WAIVER) + b"\n"], ids=repr
)
def test_what_nobody_reads_is_refused(data: bytes) -> None:
    with pytest.raises(StatementInvalid) as refused:
        judged(SignedDocument(data, Signatures()))
    assert refused.value.message.startswith("file 0: ")
