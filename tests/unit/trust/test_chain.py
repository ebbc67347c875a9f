"""How trust moves from one root to the next, and how it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BundleUntrusted, RootInvalid, SignatureInvalid, SignerUnknown, ThresholdNotMet
from appliance.trust.chain import Link, follow, judge_link
from appliance.trust.founding import Enrolment, compose, next_root
from appliance.trust.policy import Signatures
from appliance.trust.root import Policy, Root, parse_root, root_bytes
from tests.unit.trust.people import Person, signed

if TYPE_CHECKING:
    from collections.abc import Callable

ALICE, BOB, CAROL, DORA, EMIL = map(Person, ("alice", "bob", "carol", "dora", "emil"))
MALLORY = Person("mallory")


def root_of(*people: Person, version: int = 1, **more: object) -> Root:
    enrolments = [each for person in people for each in person.enrolled(second=True)]
    return compose(enrolments, version=version, **more)  # type: ignore[arg-type] # by name


ONE = root_of(ALICE, BOB, CAROL)
TWO = root_of(ALICE, BOB, DORA, version=2)
THREE = root_of(DORA, EMIL, BOB, version=3)


def link(root: Root, *people: Person, role: str = "root", second: bool = False) -> Link:
    data = root_bytes(root)
    return Link(data, signed(data, role, *people, second=second))


CHAIN = {
    1: link(ONE, ALICE, BOB),
    2: link(TWO, ALICE, BOB),
    3: link(THREE, BOB, DORA),
}


def test_a_chain_is_followed_to_its_end() -> None:
    chain = follow(root_bytes(ONE), CHAIN)
    assert (chain.root, chain.data) == (THREE, root_bytes(THREE))
    found = [(judged.root.version, [one.holder for one in judged.signers]) for judged in chain.followed]
    assert found == [(2, ["alice", "bob"]), (3, ["bob", "dora"])]


def test_nothing_newer_is_nothing_to_follow() -> None:
    assert follow(root_bytes(THREE), CHAIN).root == THREE
    assert follow(root_bytes(ONE), {}).root == ONE


def test_who_leaves_no_longer_counts_for_the_next_root() -> None:
    """Root 3 is signed by holders of root 2, of whom carol, who left, is none."""
    with pytest.raises(SignerUnknown):
        follow(root_bytes(ONE), {**CHAIN, 3: link(THREE, CAROL, BOB, DORA)})


LINKS: dict[str, tuple[Link, type[BundleUntrusted], str]] = {
    "nobody signed": (link(TWO), ThresholdNotMet, "counted by root"),
    "only the old holders": (link(TWO, ALICE, CAROL), ThresholdNotMet, "counted by root 2"),
    "only the new holders": (link(TWO, DORA, ALICE), ThresholdNotMet, "counted by root 1"),
    "one holder too few": (link(TWO, ALICE), ThresholdNotMet, "counted by root"),
    "a stranger among them": (link(TWO, ALICE, BOB, MALLORY), SignerUnknown, "mallory"),
    "for another role": (link(TWO, ALICE, BOB, role="release"), SignatureInvalid, "another role"),
    "over another root": (Link(root_bytes(TWO), CHAIN[3].signatures), SignatureInvalid, "signature of bob"),
    "a gap": (link(root_of(ALICE, BOB, DORA, version=3), ALICE, BOB), RootInvalid, "does not follow"),
    "the same version": (link(root_of(ALICE, BOB, DORA), ALICE, BOB), RootInvalid, "does not follow"),
}


@pytest.mark.parametrize(("wrong", "expected", "reason"), LINKS.values(), ids=LINKS)
def test_a_root_that_does_not_follow(wrong: Link, expected: type[BundleUntrusted], reason: str) -> None:
    with pytest.raises(expected) as caught:
        follow(root_bytes(ONE), {2: wrong})
    assert reason in caught.value.message


def test_a_fork_is_refused() -> None:
    with pytest.raises(RootInvalid, match="another root 1"):
        follow(root_bytes(ONE), {1: link(root_of(ALICE, BOB, EMIL), ALICE, BOB)})


def test_older_roots_than_the_trusted_one_are_passed_over() -> None:
    """Nothing is known of them here, and nothing rests on them."""
    assert follow(root_bytes(TWO), {1: Link(b"whatever"), 3: CHAIN[3]}).root == THREE


def test_a_policy_never_gets_weaker() -> None:
    strict = root_of(ALICE, BOB, CAROL, policy=Policy("warn"))
    judged = judge_link(strict, link(TWO, ALICE, BOB))
    assert [type(each) for each in judged.refusals] == [RootInvalid]
    assert "weaker policy" in judged.refusals[0].message


def test_with_ml_dsa_required_a_root_needs_both() -> None:
    strict = root_of(ALICE, BOB, CAROL, policy=Policy("require"))
    following = root_of(ALICE, BOB, DORA, version=2, policy=Policy("require"))
    assert judge_link(strict, link(following, ALICE, BOB, second=True)).refusals == ()
    refusals = judge_link(strict, link(following, ALICE, BOB)).refusals
    assert {type(each) for each in refusals} == {ThresholdNotMet}
    assert "without the ML-DSA signature: alice, bob" in (refusals[0].found or "")


def test_a_person_who_changes_keys_signs_with_both() -> None:
    """Root 1 knows alice's old key, root 2 the new one: two signatures, two names of files."""
    renewed = Person("alice")
    kept = [*BOB.enrolled(), *CAROL.enrolled()]
    old = compose([*ALICE.enrolled(), *kept], {"root": 3})
    new = next_root(old, [*renewed.enrolled(), *kept], {})
    data = root_bytes(new)
    both = signed(data, "root", ALICE, renewed, BOB, CAROL)
    assert judge_link(old, Link(data, both)).refusals == ()
    only_old = signed(data, "root", ALICE, BOB, CAROL)
    assert {type(each) for each in judge_link(old, Link(data, only_old)).refusals} == {ThresholdNotMet}


def test_a_signature_named_for_another_key() -> None:
    data = root_bytes(TWO)
    given = signed(data, "root", ALICE, BOB).ssh
    renamed = {name.replace(BOB.key.keyid[:8], "0" * 8): each for name, each in given.items()}
    judged = judge_link(ONE, Link(data, Signatures(renamed)))
    assert isinstance(judged.refusals[0], SignatureInvalid)
    assert "another key" in judged.refusals[0].message


def test_a_first_root_is_signed_by_its_own_holders() -> None:
    assert judge_link(None, CHAIN[1]).refusals == ()
    assert [type(each) for each in judge_link(None, link(ONE, ALICE)).refusals] == [ThresholdNotMet]
    assert [type(each) for each in judge_link(None, link(TWO, ALICE, BOB)).refusals] == [RootInvalid]


def test_a_root_under_another_s_name() -> None:
    with pytest.raises(RootInvalid):
        follow(root_bytes(ONE), {3: CHAIN[2]})


def test_twenty_roots_are_followed() -> None:
    holders = [Person(f"holder{number}") for number in range(9)]
    enrolments = [each for person in holders for each in person.enrolled()]
    roots = [compose(enrolments, {"root": 5})]
    for number in range(19):
        changed: list[Enrolment] = [*enrolments, *Person(f"guest{number}").enrolled("release")]
        roots.append(next_root(roots[-1], changed, {}))
    links = {root.version: link(root, *holders[:5]) for root in roots}
    assert follow(root_bytes(roots[0]), links).root == parse_root(root_bytes(roots[-1]))


def _spoilt(change: Callable[[bytes], bytes]) -> Link:
    return Link(change(root_bytes(TWO)), CHAIN[2].signatures)


@pytest.mark.parametrize(
    "wrong",
    [
        _spoilt(lambda data: data.replace(b'"version":2', b'"version":2,"x":1')),
        _spoilt(lambda data: data + b"\n"),
        _spoilt(lambda _: b""),
        _spoilt(lambda _: root_bytes(replace(TWO, version=3))),
    ],
    ids=["a key more", "a line feed", "empty", "another version"],
)
def test_a_root_that_was_changed_after_signing(wrong: Link) -> None:
    with pytest.raises(BundleUntrusted):
        follow(root_bytes(ONE), {2: wrong})
