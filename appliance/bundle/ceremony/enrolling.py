"""Whose key is to serve which roles, as a person writes it: ``NAME=KEY.pub:ROLE,ROLE``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from appliance.errors import KeyRefused, Usage
from appliance.trust.founding import Enrolment
from appliance.trust.keys import PublicKey, parse_public_file
from appliance.trust.mldsa import PostQuantumKey, is_post_quantum, parse_post_quantum
from appliance.trust.profiles import PROFILES
from appliance.trust.root import POST_QUANTUM, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MAX_KEY_FILE: Final = 16 * 1024
_USUAL_ROLES: Final = ("root", "release")
#: The file's own name may hold colons: roles are what is spelled like roles behind the last one.
_HOLDER: Final = re.compile(r"(?P<name>[^=]+)=(?P<file>.+?)(?::(?P<roles>[a-z]+(?:,[a-z]+)*))?")
_THRESHOLD: Final = re.compile(r"(?P<role>[^=]+)=(?P<number>[0-9]{1,3})")


def read_holders(pairs: Iterable[str]) -> list[Enrolment]:
    """The enrolments that these ask for.

    Without roles an SSH key serves root and release, and an ML-DSA key what its holder's SSH keys serve.

    Args:
        pairs: ``NAME=KEY.pub`` or ``NAME=KEY.pub:ROLE,ROLE`` for each.

    Raises:
        Usage: misspelled, a holder has two keys of one kind for a role, or a file cannot be read.
        KeyRefused: a key is weak, malformed or of a kind not allowed.
    """
    read = [_read_holder(pair) for pair in pairs]
    served: dict[str, list[str]] = {}
    for name, key, roles in read:
        if isinstance(key, PublicKey):
            served.setdefault(name, []).extend(roles or _USUAL_ROLES)
    enrolments = [
        Enrolment(
            name,
            key,
            roles
            or (tuple(dict.fromkeys(served.get(name, ()))) if isinstance(key, PostQuantumKey) else ())
            or _USUAL_ROLES,
        )
        for name, key, roles in read
    ]
    _check_once(enrolments)
    return enrolments


def read_thresholds(pairs: Iterable[str]) -> dict[str, int]:
    """How many must sign, by role, of ``ROLE=N`` for each.

    Raises:
        Usage: misspelled, or given twice.
    """
    thresholds: dict[str, int] = {}
    for pair in pairs:
        match = _THRESHOLD.fullmatch(pair)
        if not match or match["role"] in thresholds:
            raise Usage("a threshold is misspelled or given twice", found=ascii(pair), wanted="ROLE=N")
        thresholds[match["role"]] = int(match["number"])
    return thresholds


def read_policy(before: Policy, pq: str | None, profile: str | None) -> Policy:
    """The policy that is asked for; what is not said stays, and a profile brings what it asks.

    Raises:
        Usage: there is no such policy, or its parts contradict each other.
    """
    for value, known, option in ((pq, POST_QUANTUM, "--pq"), (profile, PROFILES, "--profile")):
        if value is not None and value not in known:
            raise Usage(f"{option} is misspelled", found=ascii(value), wanted=", ".join(known))
    wanted = PROFILES[profile or before.profile]
    if wanted.post_quantum is not None and pq not in {None, wanted.post_quantum}:
        raise Usage(
            f"the profile {wanted.name} asks for ML-DSA",
            found=f"--pq {pq}",
            wanted=f"--pq {wanted.post_quantum}",
        )
    return Policy(wanted.post_quantum or pq or before.pq, wanted.name)


def read_public(path: Path) -> PublicKey | PostQuantumKey:
    """The key in a ``.pub`` file of either kind.

    Raises:
        Usage: the file cannot be read.
        KeyRefused: weak, malformed or of a kind not allowed.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_KEY_FILE).decode("utf-8", "replace")
    except OSError as fault:
        raise Usage(f"{path} cannot be read", found=fault.strerror) from fault
    if not is_post_quantum(text):
        return parse_public_file(text)
    algorithm, encoded, *_ = f"{text.strip()} ".split(" ", 2)
    if "\n" in text.strip():
        raise KeyRefused("not a public key file", wanted="one line: ml-dsa-87 BASE64 COMMENT")
    return parse_post_quantum(f"{algorithm} {encoded}")


def _read_holder(pair: str) -> tuple[str, PublicKey | PostQuantumKey, tuple[str, ...]]:
    match = _HOLDER.fullmatch(pair)
    if not match:
        raise Usage(
            "a holder is misspelled", found=ascii(pair), wanted="NAME=KEY.pub, or NAME=KEY.pub:ROLE,ROLE"
        )
    try:
        key = read_public(Path(match["file"]))
    except KeyRefused as fault:
        fault.message = f"key of {match['name']}: {fault.message}"
        raise
    roles = tuple(dict.fromkeys(match["roles"].split(","))) if match["roles"] else ()
    return match["name"], key, roles


def _check_once(enrolments: Sequence[Enrolment]) -> None:
    """A second key of one kind for one person and role is a slip: it would count for nothing."""
    seen: set[tuple[str, type, str]] = set()
    for each in enrolments:
        for role in each.roles:
            place = (each.holder, type(each.key), role)
            if place in seen:
                raise Usage(
                    "a holder is named twice",
                    found=f"{each.holder}, two keys of one kind for the role {role}",
                    wanted="one SSH key, and perhaps one ML-DSA key, of each person for each role",
                )
            seen.add(place)
