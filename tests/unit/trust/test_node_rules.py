"""A node's memory decides: start from a good installation, change one thing, expect one answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import (
    ApplianceError,
    BundleRevoked,
    BundleStale,
    JournalLost,
    NotAdmitted,
    RevocationInvalid,
    RollbackRefused,
    StatementInvalid,
)
from appliance.trust.installation import begin_journal, decide_installation
from appliance.trust.journal import EPOCH, MAX_NONCES, Journal, KnownRoot, journal_bytes, parse_journal
from appliance.trust.node_rules import Attested, Authority, Candidate, Statements
from appliance.trust.revocation import Revocation
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
    from appliance.trust.installation import Decision

A, B, C, D = (letter * 64 for letter in "abcd")
NONCE = "1" * 64
IDENTITY = "5" * 32
NODE = "gpu-01"
JOURNAL = Journal(
    identity=IDENTITY,
    root=KnownRoot(2, A),
    count=5,
    products={"demo": Release(7, B), "other": Release(90, C)},
    revocation=Revocation(4, (C,), ()),
    floor="2026-01-31T12:00:00Z",
    nonces=("0" * 64,),
)
BUNDLE = Candidate(D, "demo", "1.1.0", 8, "2026-03-01T00:00:00Z", "2027-03-01T00:00:00Z")
AUTHORITY = Authority(KnownRoot(2, A), sites=True, revocation=Revocation(4, (C,), ()))
ADMISSION = Admission(D, "demo", "1.1.0", 8, (NODE,))
GIVEN = Statements(admissions=(ADMISSION,))


def decide(
    journal: Journal = JOURNAL,
    bundle: Candidate = BUNDLE,
    authority: Authority = AUTHORITY,
    given: Statements = GIVEN,
) -> Decision:
    return decide_installation(journal, NODE, bundle, authority, given)


def test_an_installation_that_nothing_speaks_against() -> None:
    decision = decide()
    assert decision.refusals == ()
    decision.require()
    assert decision.now == replace(JOURNAL, count=6, floor=BUNDLE.issued)
    assert decision.afterwards == replace(
        decision.now, count=7, products={**JOURNAL.products, "demo": BUNDLE.release}
    )


def test_the_same_once_more_changes_nothing() -> None:
    first = decide()
    again = decide(journal=first.afterwards)
    assert again.refusals == ()
    assert again.now == again.afterwards == first.afterwards


BACK = replace(BUNDLE, sequence=6, digest=A)
PERMIT = Permit(NODE, IDENTITY, NONCE, "demo", JOURNAL.products["demo"], BACK.release, "it does not start")
BACK_GIVEN = Statements(admissions=(replace(ADMISSION, bundle=A),))
STALE = replace(BUNDLE, issued="2025-06-01T00:00:00Z", expires="2026-01-31T11:59:59Z")
WAIVER = Waiver(NODE, IDENTITY, NONCE, D, "nothing newer is here")
LATER = Time(NODE, IDENTITY, NONCE, "2026-12-01T00:00:00Z")
LEAP = replace(LATER, time="2029-01-01T00:00:00Z")

REFUSED: dict[str, tuple[dict[str, Any], type[ApplianceError]]] = {
    "an older root": ({"authority": replace(AUTHORITY, root=KnownRoot(1, C))}, RollbackRefused),
    "another root of the same version": (
        {"authority": replace(AUTHORITY, root=KnownRoot(2, C))},
        RollbackRefused,
    ),
    "a revocation that gives back": (
        {"authority": replace(AUTHORITY, revocation=Revocation(5, (A,), ()))},
        RevocationInvalid,
    ),
    "another revocation of the same serial": (
        {"authority": replace(AUTHORITY, revocation=Revocation(4, (A, C), ()))},
        RevocationInvalid,
    ),
    "a revoked bundle": (
        {"authority": replace(AUTHORITY, revocation=Revocation(5, (C,), (D,)))},
        BundleRevoked,
    ),
    "a bundle that the node knows to be revoked": (
        {"journal": replace(JOURNAL, revocation=Revocation(9, (C,), (D,)))},
        BundleRevoked,
    ),
    "back without a permit": ({"bundle": BACK, "given": BACK_GIVEN}, RollbackRefused),
    "another bundle of the same number": (
        {"bundle": replace(BUNDLE, sequence=7)},
        RollbackRefused,
    ),
    "not admitted at all": ({"given": Statements()}, NotAdmitted),
    "admitted to another node": (
        {"given": Statements(admissions=(replace(ADMISSION, nodes=("gpu-02",)),))},
        NotAdmitted,
    ),
    "another bundle admitted": (
        {"given": Statements(admissions=(replace(ADMISSION, bundle=A),))},
        NotAdmitted,
    ),
    "past its date": ({"bundle": STALE}, BundleStale),
    "past its date by an attested time": (
        {
            "bundle": replace(BUNDLE, expires="2026-11-30T00:00:00Z"),
            "given": replace(GIVEN, times=(Attested(LATER, 1),)),
        },
        BundleStale,
    ),
    "a time for another node": (
        {"given": replace(GIVEN, times=(Attested(replace(LATER, node="gpu-02"), 1),))},
        StatementInvalid,
    ),
    "a time for an earlier journal": (
        {"given": replace(GIVEN, times=(Attested(replace(LATER, journal="6" * 32), 1),))},
        StatementInvalid,
    ),
    "a time that was used": (
        {"given": replace(GIVEN, times=(Attested(replace(LATER, nonce="0" * 64), 2),))},
        StatementInvalid,
    ),
    "a leap by one holder's word": (
        {"given": replace(GIVEN, times=(Attested(LEAP, 1),))},
        StatementInvalid,
    ),
    "no room for another nonce": (
        {
            "journal": replace(JOURNAL, nonces=tuple(f"{number:064x}" for number in range(MAX_NONCES))),
            "given": replace(GIVEN, times=(Attested(LATER, 1),)),
        },
        StatementInvalid,
    ),
}


@pytest.mark.parametrize(("change", "expected"), REFUSED.values(), ids=REFUSED)
def test_one_thing_that_speaks_against_it(change: dict[str, Any], expected: type[ApplianceError]) -> None:
    decision = decide(**change)
    assert [type(each) for each in decision.refusals] == [expected]
    with pytest.raises(expected):
        decision.require()


def test_back_by_permit_once() -> None:
    decision = decide(bundle=BACK, given=replace(BACK_GIVEN, permits=(PERMIT,)))
    assert decision.refusals == ()
    assert "by permit: it does not start" in decision.notes[0]
    assert decision.now.nonces == JOURNAL.nonces
    assert NONCE in decision.afterwards.nonces
    assert decision.afterwards.products["demo"] == BACK.release
    # Forward again, and the same permit a second time.
    again = replace(decision.afterwards, products=JOURNAL.products)
    refused = decide(journal=again, bundle=BACK, given=replace(BACK_GIVEN, permits=(PERMIT,)))
    assert [type(each) for each in refused.refusals] == [RollbackRefused]
    hint = refused.refusals[0].hint or ""
    assert hint.startswith("the one at hand was used before: each is good for one time; ask for another: ")
    assert hint.endswith(f"--to 6:{BACK.digest} --reason WHY --out DIR"), "a new one is asked for so"


WRONG_PERMITS = {
    "another node": replace(PERMIT, node="gpu-02"),
    "an earlier journal": replace(PERMIT, journal="6" * 32),
    "another product": replace(PERMIT, product="other"),
    "from another number": replace(PERMIT, before=Release(9, B)),
    "from another bundle": replace(PERMIT, before=Release(7, C)),
    "to another number": replace(PERMIT, after=Release(5, A)),
    "to another bundle": replace(PERMIT, after=Release(6, C)),
    "used before": replace(PERMIT, nonce="0" * 64),
}


@pytest.mark.parametrize("permit", WRONG_PERMITS.values(), ids=WRONG_PERMITS)
def test_a_permit_for_something_else(permit: Permit) -> None:
    decision = decide(bundle=BACK, given=replace(BACK_GIVEN, permits=(permit,)))
    assert [type(each) for each in decision.refusals] == [RollbackRefused]


def test_past_its_date_by_waiver() -> None:
    decision = decide(bundle=STALE, given=replace(GIVEN, waivers=(WAIVER,)))
    assert decision.refusals == ()
    assert NONCE in decision.afterwards.nonces
    assert decision.now.floor == JOURNAL.floor


@pytest.mark.parametrize(
    "waiver",
    [
        replace(WAIVER, bundle=A),
        replace(WAIVER, node="gpu-02"),
        replace(WAIVER, journal="6" * 32),
        replace(WAIVER, nonce="0" * 64),
    ],
    ids=["another bundle", "another node", "an earlier journal", "used before"],
)
def test_a_waiver_for_something_else(waiver: Waiver) -> None:
    decision = decide(bundle=STALE, given=replace(GIVEN, waivers=(waiver,)))
    assert [type(each) for each in decision.refusals] == [BundleStale]
    assert decision.refusals[0].exit_code == 9


def test_without_a_waiver_the_command_that_asks_for_one_is_told() -> None:
    [refusal] = decide(bundle=STALE).refusals
    assert str(refusal.hint).startswith("appliance trust waive --node gpu-01 --journal ")
    assert str(refusal.hint).endswith(f"--bundle {STALE.digest} --reason WHY --out DIR")


def test_one_date_far_off_raises_the_floor_by_one_step_only() -> None:
    """A builder's wrong clock must not make every later bundle stale."""
    far = replace(BUNDLE, issued="2038-01-19T03:14:07Z", expires=None)
    decision = decide(bundle=far)
    assert decision.refusals == ()
    assert decision.now.floor == "2027-03-07T12:00:00Z"
    assert "more than 400 days" in decision.notes[0]


def test_two_holders_may_attest_a_leap() -> None:
    decision = decide(
        bundle=replace(BUNDLE, expires=None), given=replace(GIVEN, times=(Attested(LEAP, 2),))
    )
    assert decision.refusals == ()
    assert decision.now.floor == LEAP.time


def test_the_first_floor_may_be_any() -> None:
    decision = decide(journal=replace(JOURNAL, floor=EPOCH))
    assert decision.now.floor == BUNDLE.issued


@pytest.mark.parametrize("floor", [EPOCH, "9999-06-01T00:00:00Z", LATEST])
def test_the_end_of_the_calendar_is_a_time_like_others(floor: str) -> None:
    """A bundle of the year 9999 must not leave a journal that cannot be read, nor a rule that breaks."""
    decision = decide(
        journal=replace(JOURNAL, floor=floor), bundle=replace(BUNDLE, issued=LATEST, expires=None)
    )
    assert decision.refusals == ()
    assert decision.now.floor == LATEST
    assert parse_journal(journal_bytes(decision.now)) == decision.now


def test_a_time_has_one_spelling() -> None:
    for text in ("0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", LATEST):
        assert time_text(parse_time(text)) == text
    for text in ("2026-01-31T24:00:00Z", "2026-01-31T23:59:60Z", "2026-02-30T00:00:00Z"):
        with pytest.raises(ValueError, match=r"."):
            parse_time(text)


def test_a_floor_never_falls() -> None:
    decision = decide(bundle=replace(BUNDLE, issued="2020-01-01T00:00:00Z"))
    assert decision.now.floor == JOURNAL.floor


def test_what_was_learnt_is_kept_even_if_the_installation_is_refused() -> None:
    authority = Authority(KnownRoot(3, D), sites=True, revocation=Revocation(5, (A, C), ()))
    decision = decide(authority=authority, given=Statements())
    assert decision.refusals
    assert (decision.now.root, decision.now.revocation) == (authority.root, authority.revocation)
    assert decision.now.products == JOURNAL.products


def test_an_older_revocation_takes_nothing_away() -> None:
    decision = decide(authority=replace(AUTHORITY, revocation=Revocation(3, (), ())))
    assert decision.refusals == ()
    assert decision.now.revocation == JOURNAL.revocation


def test_without_the_role_site_nobody_need_admit() -> None:
    assert decide(authority=replace(AUTHORITY, sites=False), given=Statements()).refusals == ()


def test_a_node_that_was_never_installed_begins_a_journal() -> None:
    journal = begin_journal(IDENTITY, NODE, AUTHORITY, Statements(), was_installed=False)
    assert journal == Journal(IDENTITY, AUTHORITY.root)
    assert decide(journal=journal).refusals == ()


ENROLMENT = Enrolment(NODE, NONCE, "new disk", {"demo": 8})


def test_a_lost_journal_needs_an_enrolment() -> None:
    with pytest.raises(JournalLost):
        begin_journal(IDENTITY, NODE, AUTHORITY, Statements(), was_installed=True)
    others = Statements(enrolments=(replace(ENROLMENT, node="gpu-02"),))
    with pytest.raises(JournalLost):
        begin_journal(IDENTITY, NODE, AUTHORITY, others, was_installed=True)


def test_an_enrolment_sets_the_floor_of_each_product() -> None:
    given = Statements(enrolments=(ENROLMENT,))
    journal = begin_journal(IDENTITY, NODE, AUTHORITY, given, was_installed=True)
    assert decide(journal=journal).refusals == ()  # of number 8 any bundle: nobody knows which it was
    lower = decide(journal=journal, bundle=replace(BUNDLE, sequence=7))
    assert [type(each) for each in lower.refusals] == [RollbackRefused]
    assert journal.nonces == (NONCE,)


@pytest.mark.parametrize("journal", [JOURNAL, Journal(IDENTITY, KnownRoot(1, A)), replace(JOURNAL, tpm=17)])
def test_a_journal_is_read_back(journal: Journal) -> None:
    assert parse_journal(journal_bytes(journal)) == journal


def test_a_journal_with_one_thing_wrong_is_lost() -> None:
    good = journal_bytes(replace(JOURNAL, tpm=1))
    for old, new in [
        (b'"count":5', b'"count":0'),
        (b'"format":1,"journal"', b'"format":2,"journal"'),
        (b"2026-01-31", b"2026-02-31"),
        (b'"nonces":["0', b'"nonces":["g'),
        (b'"tpm":1', b'"tpm":-1'),
        (b'"demo":', b'"Demo":'),
        (b'"serial":4', b'"serial":0'),
        (IDENTITY.encode(), IDENTITY[:-1].encode()),
    ]:
        assert old in good
        with pytest.raises(JournalLost):
            parse_journal(good.replace(old, new))
