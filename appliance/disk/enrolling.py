"""Enrolling a drive: steps by ``appliance.disk.enrolment``, each taken by somebody who can.

Who can is a ``Doer``: cryptsetup on a machine, or a test.  Here is only the order: look, decide, do one
thing, look again.  Nothing is believed of what a step said it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from appliance.definition.disks import USUAL_LAYERS
from appliance.disk.enrolment import Done, EscrowHeader, EscrowKeys, Format, Reset, Seen, Wipe, next_step
from appliance.disk.escrow.given import given_among, mark_given, void_given
from appliance.disk.escrow.keeping import Escrowed, escrow_header, escrow_keys, records_of
from appliance.disk.escrow.record import DriveIdentity, Record
from appliance.disk.fitness import judge
from appliance.disk.luks import uuid_in
from appliance.disk.selection import select_drive
from appliance.disk.state import Drive, Host, read_state
from appliance.errors import ApplyFailed, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from appliance.definition.disks import Layers
    from appliance.definition.escrow import Escrow
    from appliance.disk.confirmation import Confirmation
    from appliance.disk.secret import Secret


class Doer(Protocol):
    """Whoever does things to drives of one machine, having made sure that each is the one that was read."""

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""

    def format(self, drive: Drive, keys: Escrowed) -> None:
        """Write a LUKS2 header in the layers of the keys' record; if they ask, take ownership first."""

    def header(self, drive: Drive) -> bytes:
        """The LUKS2 header of a drive."""

    def reset(self, drive: Drive, psid: Secret) -> None:
        """Take a drive back to as it was made."""

    def wipe(self, drive: Drive) -> None:
        """Take the marks of a LUKS header away that nothing opens."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    Attributes:
        path: the drive's device node.
        confirmed: its serial number, as it was typed, or a permit.
        psid: what its label says; None where dm-crypt alone shall encrypt.
        host: the node's name.
        folder: the escrow.
        escrow: to whom.
        layers: what shall encrypt; a choice that is recorded.
        reset: whether a drive that was left half-way may be reset.
    """

    path: str
    confirmed: Confirmation
    psid: Secret | None
    host: str
    folder: Path
    escrow: Escrow
    layers: Layers = USUAL_LAYERS
    reset: bool = False


def enrol(doer: Doer, request: Request, *, now: Callable[[], str], told: Callable[[str], None]) -> Record:
    """Bring a drive to where it is enrolled, and its keys and header are in the escrow.

    Args:
        doer: who does it.
        request: what is wanted.
        now: the time, RFC 3339 UTC.
        told: called with a line before each step; there is no secret in it.

    Returns:
        The record of the header, which is the last thing that is made.

    Raises:
        Usage, PermitRefused, DriveUnsuitable: refused before anything was changed, or stopped.
        EscrowUnproven, EscrowInvalid, PreflightFailed, ApplyFailed: a step failed.
    """
    keys: Escrowed | None = None
    formatted = False
    reset = request.reset
    while True:
        host, drive = _look(doer, request.path)
        records = records_in(request.folder, drive)
        if drive.owner == "nobody" and drive.serial:
            request.confirmed.require("enroll", drive)
            void_given(request.folder, records)
        given = given_among(request.folder, records)
        seen = Seen(
            *(drive, judge(drive, host, request.layers), records, given),
            *(request.confirmed, keys, formatted, reset),
            layers=request.layers,
        )
        match next_step(seen):
            case EscrowKeys():
                told(f"escrowing new keys of {drive.serial} in {request.folder}")
                keys = escrow_keys(
                    *(request.folder, request.host, identity(drive), request.psid),
                    escrow=request.escrow,
                    created=now(),
                    layers=request.layers,
                )
            case Format(proven):
                how = "by dm-crypt alone" if request.layers == "dm-crypt" else "and taking ownership of it"
                told(f"formatting {drive.serial} {how}")
                formatted = True
                mark_given(request.folder, proven.record)
                doer.format(drive, proven)
            case EscrowHeader(record):
                told(f"escrowing the header of {drive.serial}")
                header = checked_header(doer.header(drive), drive, record)
                escrow_header(request.folder, record, header, created=now())
            case Reset():
                psid = _known(request.psid)
                told(f"resetting {drive.serial} by its PSID")
                reset = False  # once; what it was not good for, it will not be good for again
                doer.reset(drive, psid)
            case Wipe():
                told(f"taking the header of {drive.serial} away, which nothing opens")
                reset = False  # likewise
                doer.wipe(drive)
            case Done(record):
                return record


def identity(drive: Drive) -> DriveIdentity:
    """What of a drive goes into its records."""
    return DriveIdentity(drive.serial, drive.model, drive.firmware, drive.namespace, drive.size)


def _known(psid: Secret | None) -> Secret:
    if psid is None:
        raise Usage("a reset takes the PSID of its label", wanted="layers of which the drive is one")
    return psid


def checked_header(header: bytes, drive: Drive, keys: Record) -> bytes:
    """A header, if it is one, and that of the volume that was made with these keys.

    Raises:
        ApplyFailed: it is something else.
    """
    if (found := uuid_in(header)) != keys.uuid:
        raise ApplyFailed(
            f"what came as the header of {drive.path} is not its header",
            found=f"{len(header):,} bytes that are no LUKS2 header"
            if found is None
            else f"that of {found}",
            wanted=f"the LUKS2 header of {keys.uuid}",
            hint="nothing was escrowed; does a login script on the node print something?",
        )
    return header


def records_in(folder: Path, drive: Drive) -> tuple[Record, ...]:
    """A drive's records in an escrow; none of a drive without a serial number.

    Raises:
        EscrowInvalid, PreflightFailed: they cannot be relied on, or read.
    """
    return records_of(folder, drive.serial, owned=drive.may_have_keys) if drive.serial else ()


def _look(doer: Doer, path: str) -> tuple[Host, Drive]:
    host, drives = read_state(doer.read())
    return host, select_drive(drives, path)
