"""Checkpoints: what a node says of itself every ten seconds, so that nobody can cut the end off unseen.

Canonical JSON and the node's Ed25519 signature over it (64 bytes), in one symbol: together at most 1,400
bytes.  A receiver that has a checkpoint knows how far the chain goes, which blocks the node can still send
again, how many records it dropped, and by which rules the machine is kept one-way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature

from appliance.errors import ApplianceError
from appliance.export.block import SIGNATURE_BYTES
from appliance.export.packet import MAX_SYMBOL
from appliance.export.refusal import RefusedError, Why
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

TYPE: Final = "appliance-checkpoint"
_NODE: Final = re.compile(r"[0-9a-f]{16}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAX_DIGESTS: Final = 8
_KEYS: Final = frozenset(
    {"format", "type", "node", "epoch", "number", "time", "head", "dropped", "spool", "digests"}
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One statement.

    ``next_block`` and ``next_sequence`` are those the chain goes on with, ``hash`` that of its last header:
    so ``next_sequence - 1`` records are accounted for, of which ``dropped`` were dropped.  ``oldest`` is
    the first block that the node still has, ``size`` and ``limit`` the bytes of its spool; ``time`` in ms.
    """

    node: bytes
    epoch: int
    number: int
    time: int
    next_block: int
    next_sequence: int
    hash: bytes
    dropped: int
    oldest: int
    size: int
    limit: int
    digests: Mapping[str, str] = field(default_factory=dict)


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """The statement and its signature, as they are coded."""
    body = canonical_bytes(checkpoint_values(checkpoint))
    data = body + key.sign(body)
    if len(data) > MAX_SYMBOL:
        raise ValueError("a checkpoint has too many digests")
    return data


def checkpoint_values(checkpoint: Checkpoint) -> dict[str, object]:
    """The statement as JSON values."""
    return {
        "format": 1,
        "type": TYPE,
        "node": checkpoint.node.hex(),
        "epoch": checkpoint.epoch,
        "number": checkpoint.number,
        "time": checkpoint.time,
        "head": {
            "block": checkpoint.next_block,
            "sequence": checkpoint.next_sequence,
            "hash": checkpoint.hash.hex(),
        },
        "dropped": checkpoint.dropped,
        "spool": {
            "oldest": checkpoint.oldest,
            "bytes": checkpoint.size,
            "limit": checkpoint.limit,
        },
        "digests": dict(checkpoint.digests),
    }


def read_checkpoint(data: bytes, key: Ed25519PublicKey) -> Checkpoint:
    """Verify and read a checkpoint.

    Raises:
        RefusedError: ``SIGNATURE_FORGED``; ``MALFORMED`` if it was signed and is none all the same.
    """
    try:
        key.verify(data[-SIGNATURE_BYTES:], data[:-SIGNATURE_BYTES])
    except InvalidSignature as fault:
        raise RefusedError(Why.SIGNATURE_FORGED, "a checkpoint") from fault
    return unproven(data)


def unproven(data: bytes) -> Checkpoint:
    """What a checkpoint says, whoever signed it.

    Raises:
        RefusedError: ``MALFORMED``.
    """
    try:
        return parse_values(parse_canonical(data[:-SIGNATURE_BYTES], limit=MAX_SYMBOL))
    except (NotCanonicalError, ApplianceError) as fault:
        raise RefusedError(Why.MALFORMED, str(fault)) from fault


def parse_values(value: object) -> Checkpoint:
    """The statement of JSON values.

    Raises:
        ApplianceError: they are none.
    """
    top = Record(value, "checkpoint", ApplianceError).exactly(_KEYS)
    if top.number("format") != 1 or top.text("type") != TYPE:
        top.refuse("not a checkpoint of format 1")
    head = top.record("head").exactly(frozenset({"block", "sequence", "hash"}))
    spool = top.record("spool").exactly(frozenset({"oldest", "bytes", "limit"}))
    digests = top.record("digests")
    if len(digests.names()) > _MAX_DIGESTS or not all(map(_NAME.fullmatch, digests.names())):
        digests.refuse("too many digests, or a name is misspelled")
    return Checkpoint(
        node=bytes.fromhex(top.text("node", _NODE)),
        epoch=top.number("epoch"),
        number=top.number("number"),
        time=top.number("time"),
        next_block=head.number("block", least=1),
        next_sequence=head.number("sequence", least=1),
        hash=bytes.fromhex(head.text("hash", _DIGEST)),
        dropped=top.number("dropped"),
        oldest=spool.number("oldest"),
        size=spool.number("bytes"),
        limit=spool.number("limit"),
        digests={name: digests.text(name, _DIGEST) for name in digests.names()},
    )
