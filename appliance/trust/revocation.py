"""What was taken back: keys that sign nothing any more, and bundles that must not be used.

``revoked.<serial>.json`` is canonical JSON, signed by the role revoke.  That role can only take away, so
a lower threshold is enough for it, and a stolen key of it can do no more than stop things.

- Serials go up by any step; a higher one holds all that a lower one held.  Nothing is ever given back: a
  key that was revoked by mistake is enrolled anew as another key.
- A revoked key counts in no role, and its signature refuses what it signs.  Roots are an exception: a
  chain is followed by the keys of its time, since root N+1 is how a stolen key of root N is got rid of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.errors import BundleRevoked, RevocationInvalid
from appliance.trust.canonical import LARGEST_INTEGER, NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT: Final = 1
MAX_BYTES: Final = 1 << 20
#: More than a root can have keys, and bundles enough for a long life.
MAX_ENTRIES: Final = 8192

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is revoked: identities of keys, and digests of bundles; both sorted, each once."""

    serial: int
    keys: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()

    def includes(self, other: Revocation) -> bool:
        """Whether all is revoked here that is revoked there."""
        return set(self.keys) >= set(other.keys) and set(self.bundles) >= set(other.bundles)

    def require_bundle(self, digest: str) -> None:
        """Refuse a bundle that was taken back.

        Raises:
            BundleRevoked: it was.
        """
        if digest in self.bundles:
            raise BundleRevoked(
                "this bundle was taken back by its makers",
                found=digest,
                wanted="a bundle that still counts",
                hint="obtain a newer one; do not install this one again",
            )


#: Before anything was revoked.
NOTHING: Final = Revocation(0)


def extended(before: Revocation, keys: Iterable[str], bundles: Iterable[str]) -> Revocation:
    """The next revocation: all that was revoked before, and these."""
    return Revocation(
        before.serial + 1,
        tuple(sorted({*before.keys, *keys})),
        tuple(sorted({*before.bundles, *bundles})),
    )


def revocation_bytes(revocation: Revocation) -> bytes:
    """The revocation in its one spelling."""
    return canonical_bytes(revocation_value(revocation))


def revocation_value(revocation: Revocation) -> dict[str, object]:
    """The revocation as JSON values."""
    return {
        "format": FORMAT,
        "type": "revocation",
        "serial": revocation.serial,
        "keys": list(revocation.keys),
        "bundles": list(revocation.bundles),
    }


def parse_revocation(data: bytes) -> Revocation:
    """Read a revocation.

    Raises:
        RevocationInvalid: anything but what ``revocation_bytes`` writes.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise RevocationInvalid(
            "the revocation is not canonical JSON",
            found=str(fault),
            wanted="the file that trust revoke wrote, byte for byte",
        ) from fault
    return read_revocation(Record(value, "revocation", RevocationInvalid))


def read_revocation(top: Record) -> Revocation:
    """Read a revocation that is part of a file.

    Raises:
        BundleUntrusted: the record's own error, saying what is wrong.
    """
    top.exactly(frozenset({"format", "type", "serial", "keys", "bundles"}))
    if top.number("format") != FORMAT or top.text("type") != "revocation":
        top.refuse("not a revocation of format 1", found=top.text("type"))
    serial = top.number("serial", least=1, most=LARGEST_INTEGER)
    revocation = Revocation(serial, _digests(top, "keys"), _digests(top, "bundles"))
    if not revocation.keys and not revocation.bundles:
        top.refuse("nothing is revoked")
    return revocation


def _digests(top: Record, key: str) -> tuple[str, ...]:
    found: list[str] = []
    values = top.items(key)
    if len(values) > MAX_ENTRIES:
        top.refuse(f"{key} are too many", found=str(len(values)), wanted=f"at most {MAX_ENTRIES}")
    for each in values:
        if not isinstance(each, str) or not _DIGEST.fullmatch(each):
            top.refuse(f"{key}: not 64 small hexadecimal digits", found=str(each))
        found.append(each)
    if any(one >= other for one, other in pairwise(found)):
        top.refuse(f"{key} are not sorted, each once")
    return tuple(found)
