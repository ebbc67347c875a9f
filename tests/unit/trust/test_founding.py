"""Roots that are made here are ones that are accepted; what does not fit together is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import RootInvalid, Usage
from appliance.trust.founding import Enrolment, compose, enrolments_of, next_root
from appliance.trust.root import MAX_VERSION, Policy, parse_root, root_bytes
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from appliance.trust.root import Root

ROOTS = [Person(f"root{number}") for number in range(5)]
RELEASE = [Person(f"release{number}") for number in range(3)]
PATCH = [Person(f"patch{number}") for number in range(3)]
SITE = [Person(f"site{number}") for number in range(2)]


def usual_shape() -> list[Enrolment]:
    people = [each for person in ROOTS for each in person.enrolled("root", "revoke")]
    people += [each for person in RELEASE for each in person.enrolled("release")]
    people += [each for person in PATCH for each in person.enrolled("patch")]
    return people + [each for person in SITE for each in person.enrolled("site", "time")]


def test_the_usual_shape() -> None:
    root = compose(usual_shape())
    shape = {role: (rule.threshold, len(root.holders(role))) for role, rule in root.roles.items()}
    assert shape == {
        "root": (3, 5),
        "release": (2, 3),
        "patch": (2, 3),
        "revoke": (2, 5),
        "site": (1, 2),
        "time": (1, 2),
    }
    assert parse_root(root_bytes(root)) == root


def test_any_thresholds_may_be_asked_for() -> None:
    root = compose(usual_shape(), {"root": 5, "site": 2})
    assert (root.roles["root"].threshold, root.roles["site"].threshold) == (5, 2)


def test_a_root_is_taken_apart_and_put_together_again() -> None:
    root = compose(usual_shape(), {"root": 4})
    again = compose(enrolments_of(root), {role: rule.threshold for role, rule in root.roles.items()})
    assert again == root


ALICE, BOB, CAROL = Person("alice"), Person("bob"), Person("carol")


@pytest.fixture
def root() -> Root:
    return compose([*ALICE.enrolled(), *BOB.enrolled(), *CAROL.enrolled()])


def test_one_person_s_ml_dsa_key_stands_beside_the_other() -> None:
    root = compose([*ALICE.enrolled(second=True), *BOB.enrolled()])
    assert root.post_quantum_key("release", "alice") == ALICE.second_key
    assert root.post_quantum_key("release", "bob") is None
    assert root.holders("release") == ("alice", "bob")


def test_thresholds_count_holders_not_keys() -> None:
    """Two keys of one person, one of each kind, are one person."""
    with pytest.raises(Usage, match="no such threshold"):
        compose([*ALICE.enrolled(second=True), *BOB.enrolled(second=True)], {"release": 3})


WRONG_POLICIES = {
    "required, and somebody has no such key": (
        [*ALICE.enrolled(second=True), *BOB.enrolled()],
        Policy("require"),
    ),
    "an ML-DSA key alone": (
        [*ALICE.enrolled(), *BOB.enrolled(), Enrolment("carol", CAROL.second_key)],
        Policy(),
    ),
    "two ML-DSA keys of one holder": (
        [*ALICE.enrolled(second=True), *BOB.enrolled(), Enrolment("alice", CAROL.second_key)],
        Policy(),
    ),
    "cnsa without ML-DSA": ([*ALICE.enrolled(), *BOB.enrolled()], Policy("off", "cnsa")),
    "cnsa that only warns": (
        [
            each
            for person in (Person("dora", p384=True), Person("emil", p384=True))
            for each in person.enrolled(second=True)
        ],
        Policy("warn", "cnsa"),
    ),
    "cnsa with Ed25519": (
        [*ALICE.enrolled(second=True), *BOB.enrolled(second=True)],
        Policy("require", "cnsa"),
    ),
}


@pytest.mark.parametrize(("people", "policy"), WRONG_POLICIES.values(), ids=WRONG_POLICIES)
def test_a_policy_that_its_holders_cannot_keep(people: list[Enrolment], policy: Policy) -> None:
    with pytest.raises(RootInvalid):
        compose(people, policy=policy)


def test_the_profile_cnsa() -> None:
    people = [Person("dora", p384=True), Person("emil", p384=True)]
    root = compose(
        [each for person in people for each in person.enrolled(second=True)],
        policy=Policy("require", "cnsa"),
    )
    assert parse_root(root_bytes(root)).policy == Policy("require", "cnsa")


def test_a_policy_has_one_spelling(root: Root) -> None:
    data = root_bytes(replace(root, policy=Policy("warn")))
    assert b'"policy":{"pq":"warn"}' in data
    for other in (b'{"pq":"off"}', b'{"pq":"warn","profile":"standard"}', b'{"pq":"maybe"}', b'{"pq":1}'):
        with pytest.raises(RootInvalid):
            parse_root(data.replace(b'{"pq":"warn"}', other))


def test_the_next_root(root: Root) -> None:
    dora = Person("dora")
    kept = [each for each in enrolments_of(root) if each.holder != "carol"]
    following = next_root(root, [*kept, *dora.enrolled("release")], {"release": 3}, policy=Policy("warn"))
    assert (following.version, following.policy.pq, following.roles["release"].threshold) == (2, "warn", 3)
    assert following.roles["root"].threshold == root.roles["root"].threshold
    assert following.holders("root") == ("alice", "bob")


def test_the_next_root_changes_something(root: Root) -> None:
    with pytest.raises(Usage, match="changes nothing"):
        next_root(root, enrolments_of(root), {})


def test_a_policy_never_gets_weaker(root: Root) -> None:
    strict = replace(root, policy=Policy("warn"))
    with pytest.raises(Usage, match="weaker"):
        next_root(strict, enrolments_of(strict), {}, policy=Policy("off"))


def test_there_is_a_last_version(root: Root) -> None:
    with pytest.raises(Usage, match="no further version"):
        next_root(replace(root, version=MAX_VERSION), enrolments_of(root), {"root": 3})


def test_who_fills_a_role_that_nobody_fills(root: Root) -> None:
    with pytest.raises(Usage, match="nobody fills"):
        compose(enrolments_of(root), {"patch": 1})
    with pytest.raises(Usage, match="nobody fills"):
        compose([Enrolment("alice", ALICE.key, ("release",))], solo=True)
    with pytest.raises(Usage, match="no such role"):
        compose([Enrolment("alice", ALICE.key, ("root", "release", "admin"))], solo=True)
