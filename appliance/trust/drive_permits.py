"""What a permit for drives is good for: this node, this act, this drive, this volume, and not for ever.

A permit is not used up.  Whoever is cut off has to be able to go on with it, on one drive of several, and
a node has no journal before its first installation, which comes after its drives.  It names what may be
lost instead: the volume, by a UUID that is made anew for each enrolment.  A permit that was used loses its
meaning by that, whoever keeps a copy: the volume is gone, and the drive's next one has another UUID.  One
for enrolment takes nothing away: a drive that is not empty, or not nobody's, is refused in any case
(docs/decisions/0070).

Values in, a refusal out; who signed it was judged before (``appliance.trust.standing``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from appliance.errors import PermitRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.trust.statements import Act, DrivePermit

#: A reset takes an enrolment back that was cut off, and begins again.
_GOOD_FOR: Final[Mapping[Act, frozenset[Act]]] = {
    "enroll": frozenset({"enroll"}),
    "reset": frozenset({"reset", "enroll"}),
    "retire": frozenset({"retire"}),
}


def require_valid(permit: DrivePermit, node: str, times: Mapping[str, str]) -> None:
    """Refuse a permit for another node, or past its date.

    Args:
        permit: enough people have signed it.
        node: the node that it is used on.
        times: what is known of the time, RFC 3339 UTC, by who says so; the latest counts, since a clock
            that stands still must not make a permit last.

    Raises:
        PermitRefused: it is not good for this.
    """
    if permit.node != node:
        raise PermitRefused(
            "the permit is for another node", found=f"for {permit.node}", wanted=f"one for {node}"
        )
    who, latest = max(times.items(), key=lambda pair: pair[1])
    if latest > permit.until:
        raise PermitRefused(
            "the permit is past its date",
            found=f"good until {permit.until}; {who} says {latest}",
            wanted="one that is still good",
            hint="if no clock is wrong: propose another with trust permit-drives, and have it signed",
        )


def require_permitted(permit: DrivePermit, act: Act, serial: str, volume: str | None = None) -> None:
    """Refuse an act that a permit does not name.

    Args:
        permit: it is valid on the drive's node.
        act: what is to be done.
        serial: to which drive.
        volume: the UUID of what is lost by it; None where nobody can say, or nothing is.

    Raises:
        PermitRefused: it is not good for this.
    """
    if act not in _GOOD_FOR[permit.act]:
        raise PermitRefused(
            "the permit is for another act", found=f"to {permit.act}", wanted=f"one to {act}"
        )
    if serial not in permit.drives:
        raise PermitRefused(
            "the permit does not name this drive",
            found=", ".join(sorted(permit.drives)),
            wanted=f"one that names {serial}",
        )
    if act != "enroll" and permit.drives[serial] != volume:
        raise PermitRefused(
            f"the permit lets another volume of {serial} be lost",
            found=permit.drives[serial],
            wanted=volume or "its serial number, typed: nobody can say which volume it has",
            hint="it was used before, or is older than what is on the drive now: propose another",
        )
