"""The root: which holders' keys count for which role, and how many of them are needed.

``root.<N>.json`` is canonical JSON (RFC 8785), so a root has one spelling and one fingerprint, the
SHA-256 of the file.  These hold of every root that is accepted:

- keys are stored under their own identity, are sound (``appliance.trust.keys``), and each is used;
- the roles ``root`` and ``release`` are there; no role is unknown;
- a role's threshold is at least 1 and at most the number of distinct *holders* of its keys;
- ``solo`` is true exactly if one person alone can fill the role root, release or patch;
- unless solo, no key serves both release and patch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.errors import RootInvalid, Usage
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.keys import PublicKey, parse_public
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
ROLES: Final = ("root", "release", "patch", "revoke", "site", "time")
MAX_BYTES: Final = 1 << 20
MAX_KEYS: Final = 64
MAX_VERSION: Final = 999_999_999

_REQUIRED: Final = frozenset({"root", "release"})
#: Roles that put software on a node: one person filling one of them alone is what "solo" admits.
_TWO_PERSON: Final = ("root", "release", "patch")
_KEYID = re.compile(r"[0-9a-f]{64}")
HOLDER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A key and the person who holds it."""

    holder: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Rule:
    """A role: how many distinct holders must sign, and the keys (identities, sorted) that count."""

    threshold: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Root:
    """What a root file says; ``keys`` by identity, ``roles`` by name."""

    version: int
    solo: bool
    keys: Mapping[str, Enrolled]
    roles: Mapping[str, Rule]

    @property
    def fingerprint(self) -> str:
        """The SHA-256 (hex) of the file: what a person compares and types."""
        return hashlib.sha256(root_bytes(self)).hexdigest()

    def holders(self, role: str) -> tuple[str, ...]:
        """The distinct holders of a role's keys, sorted."""
        return tuple(sorted({self.keys[keyid].holder for keyid in self.roles[role].keys}))


def namespace(role: str) -> str:
    """The SSHSIG namespace a role signs in: keeps a signature for one role from serving another."""
    return f"{role}@appliance"


def root_bytes(root: Root) -> bytes:
    """The root in its one spelling."""
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
            "policy": {},
        }
    )


def parse_root(data: bytes) -> Root:
    """Read a root file.

    Raises:
        RootInvalid: malformed, or it breaks a rule of this module.
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
    top.record("policy").exactly(frozenset())
    keys = _keys(top.record("keys"))
    root = Root(
        version=top.number("version", least=1, most=MAX_VERSION),
        solo=top.flag("solo"),
        keys=keys,
        roles=_roles(top.record("roles"), keys),
    )
    _check_together(top, root)
    return root


def first_root(
    holders: Mapping[str, PublicKey], *, thresholds: Mapping[str, int] | None = None, solo: bool = False
) -> Root:
    """Version 1 of a root in which every holder counts for both root and release.

    Args:
        holders: each holder's key, by name.
        thresholds: how many must sign, by role; more than half if not said, one if ``solo``.
        solo: whether one person alone may do everything.

    Raises:
        Usage: holders, thresholds and ``solo`` do not fit together.
    """
    asked = dict(thresholds or {})
    if unknown := asked.keys() - _REQUIRED:
        raise Usage(
            "no such role in a first root", found=", ".join(sorted(unknown)), wanted="root, release"
        )
    for holder in holders:
        if not HOLDER.fullmatch(holder):
            raise Usage(
                "a holder's name is misspelled",
                found=ascii(holder),
                wanted="small letters, digits and inner hyphens, at most 63",
            )
    usual = 1 if solo else len(holders) // 2 + 1
    needed = {role: asked.get(role, usual) for role in sorted(_REQUIRED)}
    keys = {key.keyid: Enrolled(holder, key) for holder, key in holders.items()}
    if not holders or len(keys) != len(holders):
        raise Usage(
            "every holder needs a key of their own", found=f"{len(holders)} holders, {len(keys)} keys"
        )
    if not all(1 <= threshold <= len(holders) for threshold in needed.values()):
        raise Usage(
            "no such threshold", found=str(needed), wanted=f"1 to {len(holders)}, the holders given"
        )
    if solo != (1 in needed.values()):
        raise Usage(
            "one person alone could sign" if not solo else "--solo, but no role is filled by one person",
            found=f"{len(holders)} holders; needed: {needed}",
            wanted="two or more holders and thresholds of at least 2, or --solo",
            hint="enrol a second holder; --solo only where one person does everything",
        )
    identities = tuple(sorted(keys))
    roles = {role: Rule(threshold, identities) for role, threshold in needed.items()}
    return parse_root(root_bytes(Root(1, solo, keys, roles)))


def _keys(record: Record) -> Mapping[str, Enrolled]:
    keys: dict[str, Enrolled] = {}
    if not 0 < len(record.names()) <= MAX_KEYS:
        record.refuse("a wrong number of keys", found=str(len(record.names())), wanted=f"1 to {MAX_KEYS}")
    for keyid in record.names():
        entry = record.record(keyid).exactly(frozenset({"holder", "public"}))
        key = parse_public(entry.text("public"))
        if key.keyid != keyid:
            entry.refuse("a key stands under another identity than its own", found=keyid, wanted=key.keyid)
        keys[keyid] = Enrolled(entry.text("holder", HOLDER), key)
    return keys


def _roles(record: Record, keys: Mapping[str, Enrolled]) -> Mapping[str, Rule]:
    record.exactly(_REQUIRED, frozenset(ROLES) - _REQUIRED)
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


def _check_together(top: Record, root: Root) -> None:
    used = {keyid for rule in root.roles.values() for keyid in rule.keys}
    if unused := root.keys.keys() - used:
        top.refuse("a key serves no role", found=", ".join(sorted(unused)))
    alone = [role for role in _TWO_PERSON if role in root.roles and root.roles[role].threshold == 1]
    if root.solo != bool(alone):
        top.refuse(
            "solo does not say the truth",
            found=f"solo: {root.solo}; filled by one person: {', '.join(alone) or 'no role'}",
            wanted="solo exactly if one person alone fills root, release or patch",
        )
    both = set(root.roles["release"].keys) & set(root.roles["patch"].keys if "patch" in root.roles else ())
    if both and not root.solo:
        top.refuse("a key serves both release and patch", found=", ".join(sorted(both)))
