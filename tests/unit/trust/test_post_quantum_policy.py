"""Two signatures of each holder: what off, warn and require mean; and keys that were taken back."""

from __future__ import annotations

import pytest

from appliance.errors import KeyRevoked, SignatureInvalid, SignerUnknown, ThresholdNotMet
from appliance.trust.founding import compose
from appliance.trust.policy import Signatures, Verdict, decide
from appliance.trust.root import Policy, Root
from tests.unit.trust.people import Person

ALICE, BOB, CAROL = map(Person, ("alice", "bob", "carol"))
LIST = b"the list\n"


def root_with(pq: str) -> Root:
    people = [each for person in (ALICE, BOB, CAROL) for each in person.enrolled(second=True)]
    return compose(people, policy=Policy(pq))


def judged(pq: str, *people: Person, second: tuple[Person, ...] = (), **more: object) -> Verdict:
    return decide(
        LIST,
        {each.name: each.sign(LIST) for each in people},
        root_with(pq),
        "release",
        post_quantum={each.name: each.sign_second(LIST) for each in second},
        **more,  # type: ignore[arg-type] # by name
    )


def test_off_asks_for_none() -> None:
    verdict = judged("off", ALICE, BOB)
    assert verdict.accepted
    assert verdict.notes == ()


def test_warn_says_whose_is_missing() -> None:
    assert judged("warn", ALICE, BOB, second=(ALICE,)).accepted
    assert "bob" in judged("warn", ALICE, BOB, second=(ALICE,)).notes[0]
    assert judged("warn", ALICE, BOB, second=(ALICE, BOB)).notes == ()


def test_require_counts_only_who_signed_twice() -> None:
    assert judged("require", ALICE, BOB, second=(ALICE, BOB)).accepted
    assert judged("require", ALICE, BOB, CAROL, second=(ALICE, BOB)).accepted
    verdict = judged("require", ALICE, BOB, second=(ALICE,))
    assert [type(each) for each in verdict.refusals] == [ThresholdNotMet]
    assert verdict.refusals[0].found == "1: alice; without the ML-DSA signature: bob"


def test_ml_dsa_never_counts_alone() -> None:
    for pq in ("off", "warn", "require"):
        verdict = judged(pq, ALICE, second=(ALICE, BOB, CAROL))
        assert [type(each) for each in verdict.refusals] == [ThresholdNotMet]


def test_two_people_do_not_make_one_whole() -> None:
    """Alice by one kind and bob by the other are nobody."""
    verdict = judged("require", ALICE, CAROL, second=(BOB, CAROL))
    assert [type(each) for each in verdict.refusals] == [ThresholdNotMet]


@pytest.mark.parametrize("pq", ["off", "warn", "require"])
def test_a_bad_one_spoils_all_whatever_the_policy(pq: str) -> None:
    signatures = {each.name: each.sign(LIST) for each in (ALICE, BOB)}
    for raw in (CAROL.sign_second(b"other"), CAROL.sign_second(LIST, "root"), b"", BOB.sign_second(LIST)):
        verdict = decide(LIST, signatures, root_with(pq), "release", post_quantum={"carol": raw})
        assert SignatureInvalid in [type(each) for each in verdict.refusals]


def test_one_of_a_stranger() -> None:
    mallory = Person("mallory")
    verdict = decide(
        LIST,
        {each.name: each.sign(LIST) for each in (ALICE, BOB)},
        root_with("off"),
        "release",
        post_quantum={"mallory": mallory.sign_second(LIST)},
    )
    assert [type(each) for each in verdict.refusals] == [SignerUnknown]


def test_a_revoked_key_signs_nothing() -> None:
    for person in (ALICE, BOB):
        verdict = judged("off", ALICE, BOB, CAROL, revoked=frozenset({person.key.keyid}))
        assert [type(each) for each in verdict.refusals] == [KeyRevoked]
        assert person.name in verdict.refusals[0].message
    assert judged("off", ALICE, BOB, revoked=frozenset({CAROL.key.keyid})).accepted


def test_a_revoked_ml_dsa_key_signs_nothing() -> None:
    revoked = frozenset({ALICE.second_key.keyid})
    verdict = judged("off", ALICE, BOB, second=(ALICE,), revoked=revoked)
    assert [type(each) for each in verdict.refusals] == [KeyRevoked]


def test_documents_name_holder_and_key() -> None:
    given = Signatures({f"alice.{ALICE.key.keyid[:8]}": ALICE.sign(LIST), "bob": BOB.sign(LIST)})
    assert decide(LIST, given.ssh, root_with("off"), "release").accepted
    wrong = {**given.ssh, "carol.00000000": CAROL.sign(LIST)}
    verdict = decide(LIST, wrong, root_with("off"), "release")
    assert [type(each) for each in verdict.refusals] == [SignatureInvalid]
