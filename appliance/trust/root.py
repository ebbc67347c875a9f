"""The root: which holders' keys count for which role, how many of them are needed, and by what policy.

``root.<N>.json`` is canonical JSON (RFC 8785), so a root has one spelling and one fingerprint, the
SHA-256 of the file.  What holds of every root that is accepted: ``appliance.trust.root_rules``.  How
one root follows another: ``appliance.trust.chain``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.errors import RootInvalid
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.keys import PublicKey, parse_public
from appliance.trust.mldsa import PostQuantumKey, is_post_quantum, parse_post_quantum
from appliance.trust.profiles import PROFILES, STANDARD
from appliance.trust.record import Record
from appliance.trust.root_rules import REQUIRED, check_together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.trust.profiles import Profile

FORMAT: Final = 1
ROLES: Final = ("root", "release", "patch", "revoke", "site", "time")
#: What a root says of ML-DSA signatures, from the weakest to the strongest.
POST_QUANTUM: Final = ("off", "warn", "require")
MAX_BYTES: Final = 1 << 20
MAX_KEYS: Final = 64
MAX_VERSION: Final = 999_999_999

_PROFILE_NAMES: Final = tuple(PROFILES)
_KEYID = re.compile(r"[0-9a-f]{64}")
HOLDER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A key and the person who holds it."""

    holder: str
    key: PublicKey | PostQuantumKey


@dataclass(frozen=True, slots=True)
class Rule:
    """A role: how many distinct holders must sign, and the keys (identities, sorted) that count."""

    threshold: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What a root asks beyond thresholds: one of ``POST_QUANTUM``, and the name of one of ``PROFILES``."""

    pq: str = "off"
    profile: str = STANDARD.name

    @property
    def rules(self) -> Profile:
        """What the profile allows and asks for."""
        return PROFILES[self.profile]

    @property
    def strength(self) -> tuple[int, int]:
        """Comparable part by part: a later root's must be as high in both."""
        return POST_QUANTUM.index(self.pq), _PROFILE_NAMES.index(self.profile)


@dataclass(frozen=True, slots=True)
class Root:
    """What a root file says; ``keys`` by identity, ``roles`` by name."""

    version: int
    solo: bool
    keys: Mapping[str, Enrolled]
    roles: Mapping[str, Rule]
    policy: Policy = Policy()

    @property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the file: what a person compares and types."""
        return hashlib.sha256(root_bytes(self)).hexdigest()

    def holders(self, role: str) -> tuple[str, ...]:
        """The distinct holders of a role's keys, sorted."""
        return tuple(sorted({self.keys[keyid].holder for keyid in self.roles[role].keys}))

    def post_quantum_key(self, role: str, holder: str) -> PostQuantumKey | None:
        """A holder's ML-DSA key for a role; there is at most one."""
        for keyid in self.roles[role].keys:
            entry = self.keys[keyid]
            if entry.holder == holder and isinstance(entry.key, PostQuantumKey):
                return entry.key
        return None


def namespace(role: str) -> str:
    """The SSHSIG namespace a role signs in: keeps a signature for one role from serving another."""
    return f"{role}@appliance"


def root_bytes(root: Root) -> bytes:
    """The root in its one spelling."""
    usual = Policy()
    return canonical_bytes(
        {
            "format": FORMAT,
            "type": "root",
            "version": root.version,
            "solo": root.solo,
            "keys": {
                keyid: {"holder": entry.holder, "public": entry.key.text}
                for keyid, entry in root.keys.items()
            },
            "roles": {
                role: {"threshold": rule.threshold, "keys": list(rule.keys)}
                for role, rule in root.roles.items()
            },
            "policy": {
                key: getattr(root.policy, key)
                for key in ("pq", "profile")
                if getattr(root.policy, key) != getattr(usual, key)
            },
        }
    )


def parse_root(data: bytes) -> Root:
    """Read a root file.

    Raises:
        RootInvalid: malformed, or it breaks a rule of ``appliance.trust.root_rules``.
        KeyRefused: a key in it is weak or of a kind not allowed.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise RootInvalid(
            "the root is not canonical JSON",
            found=str(fault),
            wanted="the file that trust init wrote, byte for byte",
            hint="obtain the root again and compare its fingerprint",
        ) from fault
    top = Record(value, "root", RootInvalid)
    top.exactly(frozenset({"format", "type", "version", "solo", "keys", "roles", "policy"}))
    if top.number("format") != FORMAT or top.text("type") != "root":
        top.refuse("not a root of format 1", found=top.text("type"))
    keys = _keys(top.record("keys"))
    root = Root(
        version=top.number("version", least=1, most=MAX_VERSION),
        solo=top.flag("solo"),
        keys=keys,
        roles=_roles(top.record("roles"), keys),
        policy=_policy(top.record("policy")),
    )
    check_together(top, root)
    return root


def _policy(record: Record) -> Policy:
    """What is as usual is left out, so that a policy has one spelling."""
    record.exactly(frozenset(), frozenset({"pq", "profile"}))
    allowed = {"pq": POST_QUANTUM[1:], "profile": _PROFILE_NAMES[1:]}
    for key in record.names():
        if (value := record.text(key)) not in allowed[key]:
            record.refuse(f"no such {key}", found=value, wanted=", ".join(allowed[key]))
    return Policy(**{key: record.text(key) for key in record.names()})


def _keys(record: Record) -> Mapping[str, Enrolled]:
    keys: dict[str, Enrolled] = {}
    if not 0 < len(record.names()) <= MAX_KEYS:
        record.refuse("a wrong number of keys", found=str(len(record.names())), wanted=f"1 to {MAX_KEYS}")
    for keyid in record.names():
        entry = record.record(keyid).exactly(frozenset({"holder", "public"}))
        text = entry.text("public")
        key = parse_post_quantum(text) if is_post_quantum(text) else parse_public(text)
        if key.keyid != keyid:
            entry.refuse("a key stands under another identity than its own", found=keyid, wanted=key.keyid)
        keys[keyid] = Enrolled(entry.text("holder", HOLDER), key)
    return keys


def _roles(record: Record, keys: Mapping[str, Enrolled]) -> Mapping[str, Rule]:
    record.exactly(REQUIRED, frozenset(ROLES) - REQUIRED)
    return {role: _rule(record.record(role), keys) for role in record.names()}


def _rule(record: Record, keys: Mapping[str, Enrolled]) -> Rule:
    record.exactly(frozenset({"threshold", "keys"}))
    identities: list[str] = []
    for keyid in record.items("keys"):
        if not isinstance(keyid, str) or keyid not in keys:
            record.refuse("a key is not enrolled", found=str(keyid))
        identities.append(keyid)
    if not identities or any(one >= other for one, other in pairwise(identities)):
        record.refuse("keys are not sorted, each once, at least one")
    holders = {keys[keyid].holder for keyid in identities}
    return Rule(record.number("threshold", least=1, most=len(holders)), tuple(identities))
