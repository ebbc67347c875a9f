"""Why something that arrived is not believed: one name for each cause, counted by the receiver.

These are outcomes and no errors: a receiver goes on.  What a person has to act on is an ``ApplianceError``.
"""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """The causes, in the order in which they are looked for."""

    NOT_OURS = "not-ours"  #: no packet of this protocol and version, or of an impossible length
    UNKNOWN_NODE = "unknown-node"  #: nobody enrolled the node
    TAG_FORGED = "tag-forged"  #: the tag is not of header and symbol: damaged, or made without the key
    IMPOSSIBLE = "impossible"  #: a header with the right tag that no correct sender makes
    CONTRADICTORY = "contradictory"  #: the symbols are not all of the block that their headers name
    MALFORMED = "malformed"  #: what was decoded is no block or checkpoint
    OTHER_BLOCK = "other-block"  #: the signed header names another node, epoch or block than its packets
    SIGNATURE_FORGED = "signature-forged"  #: the node's key did not sign this header
    PAYLOAD_ALTERED = "payload-altered"  #: the payload is not the one that the header was signed for
    STALE_CHECKPOINT = "stale-checkpoint"  #: not newer than the newest one known
    LEDGER_FULL = "ledger-full"  #: too many gaps to remember one more; the block stays missing


class RefusedError(ValueError):
    """Something is not believed.

    Args:
        why: the name of the cause.
        found: what was there, for a log; text of ours, but for numbers.
    """

    def __init__(self, why: Why, found: str = "") -> None:
        super().__init__(f"{why}: {found}" if found else str(why))
        self.why = why
        self.found = found
