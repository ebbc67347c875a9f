"""Whether a node lets a bundle be installed: journals, statements and clocks put together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from appliance.errors import (
    ApplianceError,
    BundleStale,
    JournalLost,
    JournalRolledBack,
    KeyRevoked,
    NodeUnreachable,
    NotAdmitted,
    RollbackRefused,
    StatementInvalid,
)
from appliance.node.asking import Answer, Question, clock_notes, judge_node, refuse
from appliance.node.journal import Kept
from appliance.trust.documents import SignedDocument
from appliance.trust.founding import compose
from appliance.trust.journal import EPOCH, Journal, KnownRoot
from appliance.trust.node_rules import Authority, Candidate
from appliance.trust.policy import Signer
from appliance.trust.revocation import Revocation
from appliance.trust.statements import (
    Enrolment,
    Permit,
    Release,
    Statement,
    Time,
    Waiver,
    role_for,
    statement_bytes,
)
from tests.unit.trust.people import Person, signed

A, B, C = (letter * 64 for letter in "abc")
NONCE, IDENTITY, NODE = "1" * 64, "5" * 32, "gpu-01"
ALICE, BOB, CLOCK, WATCH = map(Person, ("alice", "bob", "clock", "watch"))
ROOT = compose([*ALICE.enrolled(), *BOB.enrolled(), *CLOCK.enrolled("time"), *WATCH.enrolled("time")])
JOURNAL = Journal(
    IDENTITY, KnownRoot(1, A), count=5, products={"demo": Release(7, B)}, floor="2026-01-31T12:00:00Z"
)
NOON = 1772366400.0  # 2026-03-01T12:00:00Z
KEPT = Kept(
    journal=JOURNAL,
    trouble=None,
    was_installed=True,
    last=5,
    digest=C,
    counter=None,
    unfinished=False,
    time=NOON,
)
NEW = replace(KEPT, journal=None, was_installed=False, last=0, digest=None)
LOST = replace(KEPT, journal=None, trouble=JournalLost("gone"), last=0, digest=None)
ROLLED_BACK = replace(KEPT, trouble=JournalRolledBack("old"))
QUESTION = Question(
    bundle=Candidate(C, "demo", "1.1.0", 8, "2026-03-01T00:00:00Z", "2027-03-01T00:00:00Z"),
    signers=(Signer("alice", ALICE.key.keyid, "SHA256:…"),),
    root=ROOT,
    authority=Authority(KnownRoot(1, A), sites=False),
    documents={},
    time=NOON,
)
OLDER = replace(QUESTION, bundle=replace(QUESTION.bundle, digest=A, sequence=6))
STALE = replace(QUESTION, bundle=replace(QUESTION.bundle, expires="2026-02-01T00:00:00Z"))
TAKEN_BACK = Revocation(4, (ALICE.key.keyid,))
PERMIT = Permit(NODE, IDENTITY, NONCE, "demo", Release(7, B), Release(6, A), "it does not start")
WAIVER = Waiver(NODE, IDENTITY, NONCE, C, "nothing newer is here")
TIME = Time(NODE, IDENTITY, NONCE, "2026-04-01T00:00:00Z")
ENROLMENT = Enrolment(NODE, NONCE, "a new disk", {"demo": 7})


def document(statement: Statement) -> SignedDocument:
    role = role_for(statement, ROOT)
    data = statement_bytes(statement)
    return SignedDocument(data, signed(data, role, *((CLOCK,) if role == "time" else (ALICE, BOB))))


def asked(question: Question = QUESTION, *statements: Statement, kept: Kept = KEPT) -> Answer:
    documents = {f"{number}.json": document(each) for number, each in enumerate(statements)}
    return judge_node(NODE, kept, replace(question, documents=documents))


def test_a_newer_bundle_is_let_in_and_the_two_next_states_follow() -> None:
    answer = asked()
    assert (answer.refusals, answer.notes, answer.begins) == ((), (), False)
    assert answer.decision
    assert answer.decision.now.floor == QUESTION.bundle.issued
    assert answer.decision.now.products == JOURNAL.products
    assert answer.decision.afterwards.products == {"demo": Release(8, C)}
    assert (answer.commits_now, answer.commits_afterwards) == (True, True)


def test_the_same_once_more_keeps_nothing() -> None:
    decision = asked().decision
    assert decision
    again = asked(kept=replace(KEPT, journal=decision.afterwards))
    assert again.refusals == ()
    assert (again.commits_now, again.commits_afterwards) == (False, False)


REFUSED: dict[str, tuple[tuple[Any, ...], type[ApplianceError]]] = {
    "back without a permit": ((OLDER,), RollbackRefused),
    "back with another node's permit": ((OLDER, replace(PERMIT, node="gpu-02")), RollbackRefused),
    "past its date": ((STALE,), BundleStale),
    "a site that did not admit it": (
        (replace(QUESTION, authority=replace(QUESTION.authority, sites=True)),),
        NotAdmitted,
    ),
    "a key that this station knows to be revoked": (
        (
            replace(
                QUESTION, authority=Authority(KnownRoot(1, A), False, Revocation(1, (ALICE.key.keyid,)))
            ),
        ),
        KeyRevoked,
    ),
    "a time for an earlier journal": ((QUESTION, replace(TIME, journal="6" * 32)), StatementInvalid),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bundle_is_refused_by_name(case: str) -> None:
    given, error = REFUSED[case]
    assert [type(each) for each in asked(*given).refusals] == [error]


def test_a_permit_or_waiver_lets_it_in_and_is_used_up() -> None:
    for question, statement in ((OLDER, PERMIT), (STALE, WAIVER)):
        answer = asked(question, statement)
        assert answer.refusals == ()
        assert statement.reason in answer.notes[0]
        assert answer.decision
        assert answer.decision.now.nonces == ()
        assert answer.decision.afterwards.nonces == (NONCE,)


def test_a_key_that_only_the_node_knows_to_be_revoked() -> None:
    """The station verified the bundle by what it knew; the node has seen a newer revocation."""
    known = replace(KEPT, journal=replace(JOURNAL, revocation=TAKEN_BACK))
    assert [type(each) for each in asked(kept=known).refusals] == [KeyRevoked]
    with pytest.raises(KeyRevoked):
        asked(OLDER, PERMIT, kept=known)


def test_a_second_key_that_only_the_node_knows_to_be_revoked() -> None:
    (signer,) = QUESTION.signers
    second = replace(QUESTION, signers=(replace(signer, keyid="0" * 64, post_quantum=(signer.keyid,)),))
    known = replace(KEPT, journal=replace(JOURNAL, revocation=TAKEN_BACK))
    assert [type(each) for each in asked(second, kept=known).refusals] == [KeyRevoked]


def test_a_time_for_another_node_or_used_before_hinders_nothing() -> None:
    answer = asked(QUESTION, replace(TIME, node="gpu-02"))
    assert (answer.refusals, answer.notes) == ((), ())
    used = replace(KEPT, journal=replace(JOURNAL, nonces=(NONCE,)))
    answer = asked(QUESTION, TIME, kept=used)
    assert answer.refusals == ()
    assert "used before" in answer.notes[0]
    assert answer.decision
    assert answer.decision.now.floor == QUESTION.bundle.issued


def test_a_new_node_begins_a_journal() -> None:
    answer = asked(kept=NEW)
    assert answer.begins
    assert answer.commits_now
    assert answer.before
    assert len(answer.before.identity) == 32
    other = asked(replace(QUESTION, bundle=replace(QUESTION.bundle, issued=EPOCH)), kept=NEW)
    assert other.commits_now, "though nothing but the journal itself is new"
    assert other.before
    assert other.before.identity != answer.before.identity


@pytest.mark.parametrize("kept", [LOST, ROLLED_BACK], ids=["lost", "rolled back"])
def test_a_node_that_cannot_tell_begins_anew_only_by_an_enrolment(kept: Kept) -> None:
    assert kept.trouble
    with pytest.raises(type(kept.trouble)):
        asked(kept=kept)
    with pytest.raises(type(kept.trouble)):
        asked(QUESTION, replace(ENROLMENT, node="gpu-02"), kept=kept)
    answer = asked(QUESTION, ENROLMENT, kept=kept)
    assert answer.refusals == ()
    assert answer.begins
    assert answer.before
    assert answer.before.identity != IDENTITY
    assert answer.before.nonces == (NONCE,)
    assert [type(each) for each in asked(OLDER, ENROLMENT, kept=kept).refusals] == [RollbackRefused]


def test_an_enrolment_that_the_old_journal_remembers_is_not_used_again() -> None:
    used = replace(ROLLED_BACK, journal=replace(JOURNAL, nonces=(NONCE,)))
    with pytest.raises(JournalRolledBack):
        asked(QUESTION, ENROLMENT, kept=used)


def test_notes_of_the_journal_are_passed_on() -> None:
    assert "slot b is damaged" in asked(kept=replace(KEPT, notes=("slot b is damaged",))).notes


def test_no_clock_decides_anything() -> None:
    for seconds in (0.0, NOON, 4102444800.0, float("inf"), float("nan"), 1e300):
        answer = asked(replace(QUESTION, time=seconds), kept=replace(KEPT, time=seconds))
        assert answer.refusals == ()
        assert bool(answer.notes) is (seconds != NOON)
        assert asked(replace(STALE, time=0.0), kept=replace(KEPT, time=seconds)).refusals


def test_clocks_below_the_floor_or_past_the_date_are_said() -> None:
    notes = clock_notes("2026-03-01T12:00:01Z", None, {"this station": NOON, NODE: NOON + 1})
    assert notes == [
        "the clock of this station says 2026-03-01T12:00:00Z, and it is 2026-03-01T12:00:01Z or later"
    ]
    assert "past its date" in clock_notes("2026-01-01T00:00:00Z", "2026-03-01T11:59:59Z", {NODE: NOON})[0]
    assert clock_notes("2026-01-01T00:00:00Z", "2026-03-01T12:00:00Z", {NODE: NOON}) == []


def test_the_gravest_refusal_of_all_nodes_is_raised_with_its_node() -> None:
    refuse({"one": Answer("one", ())})
    answers = {
        "one": Answer("one", (BundleStale("past its date"),)),
        "two": Answer("two", ()),
        "three": Answer("three", (RollbackRefused("it does not go back"), BundleStale("past its date"))),
    }
    with pytest.raises(RollbackRefused) as gravest:
        refuse(answers)
    assert gravest.value.message == "three: it does not go back"
    del answers["three"]
    with pytest.raises(BundleStale) as gravest:
        refuse(answers)
    assert gravest.value.message == "one: past its date"
    with pytest.raises(NodeUnreachable) as gravest:
        refuse({"one": Answer("one", (NodeUnreachable("one: broke"),))})
    assert gravest.value.message == "one: broke"


def test_an_answer_tells_the_records_what_was_known_and_decided() -> None:
    values = asked(STALE).as_dict()
    assert values["journal"] == IDENTITY
    assert values["begins"] is False
    assert values["sequences"] == {"demo": 7}
    assert values["floor"] == {"before": JOURNAL.floor, "after": QUESTION.bundle.issued}
    (refused,) = values["refused"]  # type: ignore[misc] # a list of one
    assert (refused["error"], refused["exit_code"]) == ("BundleStale", 9)
    assert Answer(NODE, (JournalLost("gone"),)).as_dict().keys() == {"notes", "refused"}
