"""What binds an act that destroys to one drive: its serial number, typed, or a signed permit.

Whoever does such a thing asks ``Confirmation.require`` right before it, with what the drive says then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import Usage
from appliance.trust.drive_permits import require_permitted

if TYPE_CHECKING:
    from appliance.disk.state import Drive
    from appliance.trust.statements import Act, DrivePermit


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a person confirmed.

    Attributes:
        typed: a serial number; it is good for whatever that person asked for.
        permit: signed, for this node, and not past its date (``appliance.node.drive_permit``).
    """

    typed: str = ""
    permit: DrivePermit | None = None

    def require(self, act: Act, drive: Drive, volume: str | None = None) -> None:
        """Refuse what nobody confirmed of a drive that has a serial number.

        Args:
            act: what is to be done.
            drive: as it was read just now.
            volume: the UUID of the volume that is lost by it; None where nobody can say, for which no
                permit is good, or nothing is.

        Raises:
            Usage: nobody confirmed, or another drive was meant.
            PermitRefused: the permit is not for this.
        """
        if self.permit is not None:
            require_permitted(self.permit, act, drive.serial, volume)
        elif not self.typed:
            raise Usage(
                f"{drive.path} was not touched: nobody confirmed",
                wanted=f"its serial number, typed, or --permit; that of {drive.path} is on its label "
                "and in disk status",
            )
        elif self.typed != drive.serial:
            raise Usage(
                f"{drive.path} was not touched: this is not what it is",
                found=ascii(self.typed),
                wanted="the serial number of the drive at that place",
                hint="names such as nvme0n1 move when drives are added; look again with disk status",
            )
