"""A permit for drives of a node: whether it is signed, and valid there, by all that station and node know.

The node's journal, where there is one, knows roots, revocations and times that the station may not know.
One that was lost or put back knows nothing, so no permit is judged by it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.bundle.ceremony.revoked import revoked_keys
from appliance.bundle.documents import read_document
from appliance.errors import StatementInvalid
from appliance.node.journal import USUAL, read_journal
from appliance.trust.drive_permits import require_valid
from appliance.trust.journal import KnownRoot
from appliance.trust.node_rules import root_refusal
from appliance.trust.root import parse_root
from appliance.trust.standing import judge_document
from appliance.trust.statements import LATEST, DrivePermit, time_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.node.connection import Connection
    from appliance.node.journal import Place


@dataclass(frozen=True, slots=True)
class SignedPermit:
    """A permit that counts on its node, and the holders who signed it."""

    permit: DrivePermit
    holders: tuple[str, ...]

    @property
    def text(self) -> str:
        """In a line for people."""
        return f"by permit {self.permit.nonce[:16]} of {', '.join(self.holders)}: {self.permit.reason}"

    def values(self) -> dict[str, Any]:
        """For programs."""
        permit = self.permit
        return {"nonce": permit.nonce, "reason": permit.reason, "signed_by": list(self.holders)}


def admit_drive_permit(
    connection: Connection,
    path: Path,
    *,
    root: bytes,
    revoked: Sequence[Path],
    time: float,
    place: Place = USUAL,
) -> SignedPermit:
    """A permit that is good on a node now; which act and drive, is asked when it comes to that.

    Args:
        connection: to the node.
        path: the permit, with its signatures beside it.
        root: the bytes of the trusted root.
        revoked: revocations that the node may not know.
        time: this station's clock, seconds since 1970.
        place: where the node keeps its journal.

    Raises:
        Usage, FileUnexpected, BundleMalformed: a file cannot be read.
        BundleUntrusted: the permit, or whose keys count for it, is not to be believed; the subclass says
            why, ``PermitRefused`` that it is for another node or past its date.
        JournalLost, JournalRolledBack: the node cannot tell new from old.
        NodeUnreachable, PreflightFailed: the node could not tell.
    """
    kept = read_journal(connection, place)
    if kept.trouble is not None:
        raise kept.trouble
    node, known, trusted = connection.node.name, kept.journal, parse_root(root)
    refusal = known and root_refusal(
        known.root, KnownRoot(trusted.version, hashlib.sha256(root).hexdigest())
    )
    if refusal:
        raise refusal
    taken_back = frozenset(known.revocation.keys if known else ()).union(
        *(revoked_keys(each, trusted) for each in revoked)
    )
    standing = judge_document(read_document(path), trusted, revoked=taken_back)
    permit = standing.document
    if not isinstance(permit, DrivePermit):
        raise StatementInvalid(
            f"{path} is no permit for drives", wanted="what appliance trust permit-drives wrote"
        )
    standing.require(path.name)
    clocks = {"this station's clock": time, f"the clock of {node}": kept.time}
    floor = {f"the journal of {node}": known.floor} if known else {}
    require_valid(permit, node, floor | {who: _time(seconds) for who, seconds in clocks.items()})
    return SignedPermit(permit, tuple(sorted({one.holder for one in standing.signers})))


def _time(seconds: float) -> str:
    """What a clock says; the last of all times where that is none, so that it makes nothing last."""
    try:
        return time_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
    except (ValueError, OverflowError, OSError):
        return LATEST
