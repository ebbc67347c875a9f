"""What a node remembers, so that it never goes back: roots, products, revocations, time, nonces.

A value and its one spelling; where it is kept, and that it survives a power cut, is for
``appliance.node.remote.journal``.  Every change makes a new value with a count one higher.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from appliance.errors import JournalLost
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record
from appliance.trust.revocation import NOTHING, Revocation, read_revocation, revocation_value
from appliance.trust.statements import Release, parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT: Final = 1
MAX_BYTES: Final = 2 << 20
#: Nonces are kept for ever, since a permit never expires; a node with so many is enrolled anew.
MAX_NONCES: Final = 4096
#: Before any time was attested.
EPOCH: Final = "1970-01-01T00:00:00Z"

_IDENTITY = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_PRODUCT = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


@dataclass(frozen=True, slots=True)
class KnownRoot:
    """The newest root a node has seen: version, and SHA-256 (hex) of its file."""

    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Journal:
    """The state of one node.

    ``identity`` is random and stays with the journal; ``count`` is of the changes so far.  ``floor`` is
    the time before which it cannot be.  ``tpm`` is the value of the TPM's counter that belongs to this
    count, None on a node without one.
    """

    identity: str
    root: KnownRoot
    count: int = 1
    products: Mapping[str, Release] = field(default_factory=dict)
    revocation: Revocation = NOTHING
    floor: str = EPOCH
    nonces: tuple[str, ...] = ()
    tpm: int | None = None

    def following(self, **changes: object) -> Journal:
        """The next state, with these fields changed; itself if none of them is another."""
        changed = replace(self, **changes)  # type: ignore[arg-type] # by the callers' names
        return self if changed == self else replace(changed, count=self.count + 1)


def journal_bytes(journal: Journal) -> bytes:
    """The journal in its one spelling."""
    values: dict[str, object] = {
        "format": FORMAT,
        "journal": journal.identity,
        "count": journal.count,
        "root": {"version": journal.root.version, "sha256": journal.root.sha256},
        "products": {
            name: {"sequence": each.sequence, "digest": each.digest}
            for name, each in journal.products.items()
        },
        "floor": journal.floor,
        "nonces": list(journal.nonces),
    }
    if journal.revocation != NOTHING:
        values["revocation"] = revocation_value(journal.revocation)
    if journal.tpm is not None:
        values["tpm"] = journal.tpm
    return canonical_bytes(values)


def parse_journal(data: bytes) -> Journal:
    """Read a journal.

    Raises:
        JournalLost: anything but what ``journal_bytes`` writes.
    """
    try:
        value = parse_canonical(data, limit=MAX_BYTES)
    except NotCanonicalError as fault:
        raise JournalLost("the node's journal is not canonical JSON", found=str(fault)) from fault
    top = Record(value, "journal", JournalLost)
    keys = {"format", "journal", "count", "root", "products", "floor", "nonces"}
    top.exactly(frozenset(keys), frozenset({"revocation", "tpm"}))
    if top.number("format") != FORMAT:
        top.refuse("not a journal of format 1")
    root = top.record("root").exactly(frozenset({"version", "sha256"}))
    products = top.record("products")
    try:
        floor = time_text(parse_time(top.text("floor")))
    except ValueError as fault:
        top.refuse("the floor is no time", found=str(fault))
    return Journal(
        identity=top.text("journal", _IDENTITY),
        count=top.number("count", least=1),
        root=KnownRoot(root.number("version", least=1), root.text("sha256", _DIGEST)),
        products={name: _release(products, name) for name in products.names()},
        revocation=read_revocation(top.record("revocation")) if top.has("revocation") else NOTHING,
        floor=floor,
        nonces=_nonces(top),
        tpm=top.number("tpm") if top.has("tpm") else None,
    )


def _release(products: Record, name: str) -> Release:
    if not _PRODUCT.fullmatch(name):
        products.refuse("a product's name is misspelled", found=name)
    record = products.record(name).exactly(frozenset({"sequence", "digest"}))
    return Release(record.number("sequence"), record.text("digest", _DIGEST))


def _nonces(top: Record) -> tuple[str, ...]:
    found = [each for each in top.items("nonces") if isinstance(each, str) and _DIGEST.fullmatch(each)]
    if len(found) != len(top.items("nonces")) or len(found) > MAX_NONCES:
        top.refuse("nonces are malformed or too many")
    if any(one >= other for one, other in pairwise(found)):
        top.refuse("nonces are not sorted, each once")
    return tuple(found)
