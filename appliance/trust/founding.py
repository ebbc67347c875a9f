"""Making roots: the first one, and a next one with something changed.

A root is described by its enrolments: a key, its holder, and the roles it serves.  Thresholds that nobody
names are the usual ones: more than half of the holders for root, release and patch, two for revoke (which
can only take away), one for site and time (which say nothing about software).  So five holders of root,
three of release, three others of patch, five of revoke, two of site and two of time give the shape that
docs/trust.md recommends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from appliance.errors import Usage
from appliance.trust.root import (
    HOLDER,
    MAX_VERSION,
    ROLES,
    Enrolled,
    Policy,
    Root,
    Rule,
    parse_root,
    root_bytes,
)
from appliance.trust.root_rules import REQUIRED, alone_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from appliance.trust.keys import PublicKey
    from appliance.trust.mldsa import PostQuantumKey

_SUBTRACT_ONLY: Final = 2


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A key, the person who holds it, and the roles it serves."""

    holder: str
    key: PublicKey | PostQuantumKey
    roles: tuple[str, ...] = ("root", "release")


def usual_threshold(role: str, holders: int, *, solo: bool) -> int:
    """How many of so many holders must sign in a role unless somebody says otherwise."""
    if solo or role in {"site", "time"}:
        return 1
    if role == "revoke":
        return min(_SUBTRACT_ONLY, holders)
    return holders // 2 + 1


def compose(
    enrolments: Iterable[Enrolment],
    thresholds: Mapping[str, int] | None = None,
    *,
    policy: Policy | None = None,
    solo: bool = False,
    version: int = 1,
) -> Root:
    """A root of these enrolments.

    Args:
        enrolments: whose keys serve what; each key once.
        thresholds: how many must sign, by role; the usual if not said.
        policy: what is asked beyond thresholds; nothing if None.
        solo: whether one person alone may release.
        version: 1, or one more than that of the root it is to follow.

    Raises:
        Usage: these do not fit together.
        RootInvalid: they break a rule of ``appliance.trust.root_rules``.
    """
    given, asked = list(enrolments), thresholds or {}
    _check_people(given, asked)
    keys = {each.key.keyid: Enrolled(each.holder, each.key) for each in given}
    roles = {}
    for role in ROLES:
        if not (serving := [each for each in given if role in each.roles]):
            continue
        holders = len({each.holder for each in serving})
        needed = asked.get(role, usual_threshold(role, holders, solo=solo))
        if not 1 <= needed <= holders:
            raise Usage(
                f"no such threshold for the role {role}",
                found=str(needed),
                wanted=f"1 to {holders}, its holders",
            )
        roles[role] = Rule(needed, tuple(sorted(each.key.keyid for each in serving)))
    root = Root(version, solo, keys, roles, policy or Policy())
    if solo != bool(alone_in(root)):
        raise Usage(
            "one person alone could sign" if not solo else "--solo, but no role is filled by one person",
            found="; ".join(
                f"{role}: {rule.threshold} of {len(root.holders(role))}" for role, rule in roles.items()
            ),
            wanted="two or more holders and thresholds of at least 2, or --solo",
            hint="enrol a second holder; --solo only where one person does everything",
        )
    return parse_root(root_bytes(root))


def enrolments_of(root: Root) -> list[Enrolment]:
    """Whose keys serve what in a root: what ``compose`` made it of, or would have."""
    return [
        Enrolment(
            entry.holder, entry.key, tuple(role for role, rule in root.roles.items() if keyid in rule.keys)
        )
        for keyid, entry in root.keys.items()
    ]


def next_root(
    root: Root,
    enrolments: Iterable[Enrolment],
    thresholds: Mapping[str, int],
    *,
    policy: Policy | None = None,
    solo: bool | None = None,
) -> Root:
    """The root that is to follow ``root``.

    Args:
        root: the one before.
        enrolments: all that are to be in it.
        thresholds: those that are to change; the others stay as they are, as far as there are holders.
        policy: the new one; as before if None.
        solo: as before if None.

    Raises:
        Usage: as ``compose``; or nothing changes, or the policy would be weaker.
        RootInvalid: as ``compose``.
    """
    wanted = policy or root.policy
    if root.version == MAX_VERSION:
        raise Usage("there can be no further version", found=str(root.version))
    if any(new < old for new, old in zip(wanted.strength, root.policy.strength, strict=True)):
        raise Usage(
            "a later root cannot have a weaker policy",
            found=f"pq {wanted.pq}, profile {wanted.profile}",
            wanted=f"at least pq {root.policy.pq}, profile {root.policy.profile}",
        )
    given = list(enrolments)
    served = {role for each in given for role in each.roles}
    kept = {role: rule.threshold for role, rule in root.roles.items() if role in served}
    proposed = compose(
        given,
        {**kept, **thresholds},
        policy=wanted,
        solo=root.solo if solo is None else solo,
        version=root.version + 1,
    )
    if replace(proposed, version=root.version) == root:
        raise Usage(
            "the proposed root changes nothing",
            hint="say what is to change: --add, --remove, --threshold …",
        )
    return proposed


def _check_people(given: list[Enrolment], thresholds: Mapping[str, int]) -> None:
    keys = {each.key.keyid for each in given}
    if not given or len(keys) != len(given):
        raise Usage("every holder needs a key of their own", found=f"{len(given)} given, {len(keys)} keys")
    for each in given:
        if not HOLDER.fullmatch(each.holder):
            raise Usage(
                "a holder's name is misspelled",
                found=ascii(each.holder),
                wanted="small letters, digits and inner hyphens, at most 63",
            )
    served = {role for each in given for role in each.roles}
    if unknown := (served | thresholds.keys()) - set(ROLES):
        raise Usage("no such role", found=", ".join(sorted(unknown)), wanted=", ".join(ROLES))
    if unfilled := (REQUIRED | thresholds.keys()) - served:
        raise Usage(
            "nobody fills a role", found=", ".join(sorted(unfilled)), wanted="at least one holder for each"
        )
