"""Whoever signs the next root is told all that is different in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.trust.founding import compose, enrolments_of, next_root
from appliance.trust.root import Enrolled, Policy
from appliance.trust.root_changes import root_changes
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.trust.root import Root

ALICE, BOB, CAROL, DORA = map(Person, ("alice", "bob", "carol", "dora"))
ROOT = compose([each for one in (ALICE, BOB, CAROL) for each in one.enrolled(second=True)])
DIGITS = DORA.key.keyid[:16]


def _renamed(root: Root) -> Root:
    keys = dict(root.keys)
    keys[CAROL.key.keyid] = Enrolled("charles", keys[CAROL.key.keyid].key)
    return replace(root, keys=keys)


def _next(change: Callable[[list], object], **thresholds: int) -> Root:  # type: ignore[type-arg] # of enrolments
    enrolments = enrolments_of(ROOT)
    change(enrolments)
    return next_root(ROOT, enrolments, thresholds)


CHANGES: dict[str, tuple[Root, list[str]]] = {
    "a key more": (
        _next(lambda each: each.extend(DORA.enrolled("release"))),
        [
            f"new: ssh-ed25519 key {DIGITS} of dora, which serves release",
            "role release: 2 of 3, and now 2 of 4",
        ],
    ),
    "a role more": (
        _next(lambda each: each.extend(DORA.enrolled("site"))),
        [f"new: ssh-ed25519 key {DIGITS} of dora, which serves site", "role site is new: 1 of 1"],
    ),
    "a threshold": (_next(lambda _: None, root=3), ["role root: 2 of 3, and now 3 of 3"]),
    "a policy": (
        next_root(ROOT, enrolments_of(ROOT), {}, policy=Policy("require")),
        ["ml-dsa: off, and now require"],
    ),
    "another holder of one key": (
        _renamed(ROOT),
        [f"key {CAROL.key.keyid[:16]} of carol is now said to be held by charles"],
    ),
    "solo": (replace(ROOT, solo=True), ["one person alone can release from now on"]),
    "a profile": (replace(ROOT, policy=Policy("off", "cnsa")), ["profile: standard, and now cnsa"]),
    "nothing": (ROOT, []),
}


@pytest.mark.parametrize(("after", "told"), CHANGES.values(), ids=CHANGES)
def test_what_is_different_is_said(after: Root, told: list[str]) -> None:
    said = root_changes(ROOT, after)
    for line in told:
        assert line in said
    assert bool(said) == bool(told)


def test_the_way_back_is_said_too() -> None:
    said = root_changes(CHANGES["a role more"][0], ROOT)
    assert said == [
        f"gone: ssh-ed25519 key {DIGITS} of dora, which served site",
        "role site is given up",
    ]


def test_other_roles_of_a_kept_key() -> None:
    after = compose(
        [*ALICE.enrolled(), *BOB.enrolled(), *CAROL.enrolled("root"), *DORA.enrolled("release")]
    )
    before = compose([*ALICE.enrolled(), *BOB.enrolled(), *CAROL.enrolled()])
    assert (
        f"ssh-ed25519 key {CAROL.key.keyid[:16]} of carol served root, release, and now root"
        in root_changes(before, after)
    )
