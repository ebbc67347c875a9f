"""Changing the keys of an enrolled drive: steps by ``appliance.disk.rotation``, each by somebody who can.

Look, decide, do one thing, look again; nothing is believed of what a step said it did, but that the owner's
PIN was set, which the drive shows as one bit only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from appliance.disk.confirmation import Confirmation
from appliance.disk.enrolling import identity, records_in
from appliance.disk.escrow.given import given_among
from appliance.disk.escrow.keeping import Escrowed, escrow_keys, escrowed_before
from appliance.disk.escrow.marks import marks_of
from appliance.disk.rotation import (
    SAYS,
    Names,
    Seen,
    is_plain,
    next_step,
    not_shown,
    select_generations,
)
from appliance.disk.rotation_steps import STEPS, Taking
from appliance.disk.selection import select_drive
from appliance.disk.state import read_state
from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.escrow import Escrow
    from appliance.disk.escrow.record import Record
    from appliance.disk.escrow.sealing import Openers
    from appliance.disk.rotation import Generations, StepName
    from appliance.disk.rotation_steps import Doer
    from appliance.disk.state import Drive


#: Steps after which the drive is as it was.
_IN_THE_ESCROW: Final = frozenset({"EscrowKeys", "MarkGiven", "EscrowHeader", "Finish"})


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    Attributes:
        path: the drive's device node.
        typed: its serial number, as it was typed.
        folder: the escrow.
        escrow: to whom the new keys are sealed.
        openers: what opens the keys that the drive has.
        next_openers: what opens those of a rotation that was begun.
    """

    path: str
    typed: str
    folder: Path
    escrow: Escrow
    openers: Openers
    next_openers: Openers


def look(doer: Doer, path: str, folder: Path) -> Seen:
    """How a drive and its escrow stand; no PIN is needed.

    Raises:
        DriveUnsuitable: its keys may not be changed.
        EscrowInvalid, PreflightFailed, ApplyFailed: something could not be read.
    """
    _, drives = read_state(doer.read())
    drive = select_drive(drives, path)
    records = records_in(folder, drive)
    keys = _generations(folder, drive, records)
    names = _names(doer, drive)
    if keys.next is None:
        return Seen(drive, keys, names)
    return Seen(drive, replace(keys, **_told(folder, keys.next, records, given=True)), names)


def rotate(doer: Doer, request: Request, *, now: Callable[[], str], told: Callable[[str], None]) -> Record:
    """Give an enrolled drive new keys, which are in the escrow first; or end what was begun.

    Args:
        doer: who does it.
        request: what is wanted.
        now: the time, RFC 3339 UTC.
        told: called with a line before each step; there is no secret in it.

    Returns:
        The record of the new keys.

    Raises:
        Usage, DriveUnsuitable: refused before anything was changed, or stopped.
        EscrowClosed, EscrowUnproven, EscrowInvalid, PreflightFailed, ApplyFailed: a step failed.
    """
    folder = request.folder
    seen = look(doer, request.path, folder)
    # Of permits there is none for this: nothing is lost by it.
    Confirmation(request.typed).require("reset", seen.drive)
    before = escrowed_before(folder, seen.keys.before, request.openers)
    new = None if seen.keys.next is None else escrowed_before(folder, seen.keys.next, request.next_openers)
    taken: set[StepName] = set()
    while True:
        step = next_step(seen)
        if new is not None and step == "Done":
            return new.record
        if step in taken:
            raise not_shown(seen.drive, step)
        taken.add(step)
        told(SAYS[step].format(seen.drive.serial))
        if new is None:
            new = _escrow_keys(request, before, seen.drive, now())
        else:
            STEPS[step](Taking(doer, folder, seen.drive, before, new, now))
        if step not in _IN_THE_ESCROW:
            seen = _looked_again(doer, request, new, seen)
        seen = replace(seen, keys=_keys(request.folder, seen.drive, before.record, new.record))


def _escrow_keys(request: Request, before: Escrowed, drive: Drive, created: str) -> Escrowed:
    return escrow_keys(
        *(request.folder, before.record.host, identity(drive), before.psid),
        escrow=request.escrow,
        created=created,
        layers=before.record.layers,
        volume=before.record.uuid,
    )


def _looked_again(doer: Doer, request: Request, new: Escrowed, last: Seen) -> Seen:
    """The same drive; its names are not read again once they say that administrators are done with."""
    _, drives = read_state(doer.read())
    drive = select_drive(drives, request.path)
    if drive.serial != last.drive.serial:
        raise DriveUnsuitable(
            f"{request.path} is another drive now", found=drive.serial, wanted=last.drive.serial
        )
    done = last.names.first == new.record.mark != last.names.second
    return Seen(drive, last.keys, last.names if done else _names(doer, drive))


def _keys(folder: Path, drive: Drive, before: Record, new: Record) -> Generations:
    """The keys of this run, whatever else the escrow holds, of a drive that may be rotated still."""
    records = records_in(folder, drive)
    given = new.generation in given_among(folder, records)
    keys = _generations(folder, drive, records)
    return replace(keys, before=before, next=new, **_told(folder, new, records, given=given))


def _names(doer: Doer, drive: Drive) -> Names:
    return Names("", "") if is_plain(drive) else Names(**doer.act(drive, "read-names"))


def _generations(folder: Path, drive: Drive, records: tuple[Record, ...]) -> Generations:
    rotated = frozenset(
        one.generation
        for one in records
        if one.purpose == "keys" and one.volume and "rotated" in marks_of(folder, one)
    )
    return select_generations(drive, records, given_among(folder, records), rotated)


def _told(folder: Path, keys: Record, records: tuple[Record, ...], *, given: bool) -> dict[str, Any]:
    header = any((one.purpose, one.generation) == ("header", keys.generation) for one in records)
    return {"marks": marks_of(folder, keys), "given": given, "header": header}
