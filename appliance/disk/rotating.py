"""Changing the keys of an enrolled drive: steps by ``appliance.disk.rotation``, each by somebody who can.

Look, decide, do one thing, look again; nothing is believed of what a step said it did, but that the owner's
PIN was set, which the drive shows as one bit only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from appliance.disk.enrolling import checked_header, identity, records_in
from appliance.disk.escrow.given import given_among, mark_given
from appliance.disk.escrow.keeping import Escrowed, escrow_header, escrow_keys, escrowed_before
from appliance.disk.escrow.marks import marks_of, put_mark
from appliance.disk.rotation import (
    SAYS,
    Names,
    Seen,
    confirm,
    next_step,
    not_shown,
    select_generations,
)
from appliance.disk.selection import select_drive
from appliance.disk.state import read_state
from appliance.errors import DriveUnsuitable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.definition.escrow import Escrow
    from appliance.disk.escrow.record import Record
    from appliance.disk.escrow.sealing import Openers
    from appliance.disk.luks import PassphraseToken
    from appliance.disk.rotation import Generations, StepName
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive


class Doer(Protocol):
    """Whoever does things to drives of one machine, having made sure that each is the one that was read."""

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        """An act of ``appliance.tcg.program``."""

    def name_passphrase(self, drive: Drive, token: PassphraseToken) -> None:
        """Write a token to the header."""

    def add_passphrase(self, drive: Drive, slot: str, old: Secret, new: Secret) -> None:
        """Add a passphrase in a keyslot."""

    def remove_passphrase(self, drive: Drive, old: Secret) -> None:
        """Remove a passphrase."""

    def header(self, drive: Drive) -> bytes:
        """The LUKS2 header of a drive."""


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
    names = Names(**doer.act(drive, "read-names"))
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
    confirm(seen.drive, request.typed)
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
        new = _take(step, doer, request, seen, before, new, now)
        seen = _looked_again(doer, request, before, new, seen.drive.serial)


def _looked_again(doer: Doer, request: Request, before: Escrowed, new: Escrowed, serial: str) -> Seen:
    """The same drive, and the keys of this run, whatever else the escrow holds."""
    _, drives = read_state(doer.read())
    drive = select_drive(drives, request.path)
    records = records_in(request.folder, drive)
    given = new.record.generation in given_among(request.folder, records)
    if drive.serial != serial:
        raise DriveUnsuitable(f"{request.path} is another drive now", found=drive.serial, wanted=serial)
    keys = replace(
        _generations(request.folder, drive, records),
        before=before.record,
        next=new.record,
        **_told(request.folder, new.record, records, given=given),
    )
    return Seen(drive, keys, Names(**doer.act(drive, "read-names")))


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


def _take(
    step: StepName,
    doer: Doer,
    request: Request,
    seen: Seen,
    before: Escrowed,
    new: Escrowed | None,
    now: Callable[[], str],
) -> Escrowed:
    drive, folder = seen.drive, request.folder
    if step == "EscrowKeys" or new is None:
        return escrow_keys(
            *(folder, before.record.host, identity(drive), before.psid),
            escrow=request.escrow,
            created=now(),
            layers=before.record.layers,
            volume=before.record.uuid,
        )
    record = new.record
    if step == "MarkGiven":
        mark_given(folder, record)
    elif step == "PrepareSecond":
        doer.act(drive, "prepare-second", pin=before.admin_pin, new=new.admin_pin, mark=record.mark)
    elif step == "ChangeFirst":
        doer.act(drive, "change-first", new=new.admin_pin, mark=record.mark)
    elif step == "DismissSecond":
        doer.act(drive, "dismiss-second", new=new.admin_pin)
    elif step == "OpenOwner":
        put_mark(folder, record, "opening")
        doer.act(drive, "open-owner", pin=before.admin_pin)
        put_mark(folder, record, "opened")
    elif step == "SetOwner":
        put_mark(folder, record, "setting")
        doer.act(drive, "set-owner", new=new.admin_pin)
        put_mark(folder, record, "set")
    elif step == "NamePassphrase":
        token = None if drive.luks is None else drive.luks.next_token(record.mark)
        if token is None:
            raise DriveUnsuitable(
                f"the passphrase of {drive.path} may not be changed: no-room",
                found="its header has no empty keyslot, or no room for a token",
                hint="cryptsetup luksKillSlot, of a keyslot that nobody needs",
            )
        doer.name_passphrase(drive, token)
    elif step == "AddPassphrase":
        slot = "" if drive.luks is None else drive.luks.passphrase_slot
        doer.add_passphrase(drive, slot, before.passphrase, new.passphrase)
    elif step == "RemovePassphrase":
        doer.remove_passphrase(drive, before.passphrase)
    elif step == "EscrowHeader":
        escrow_header(folder, record, checked_header(doer.header(drive), drive, record), created=now())
    elif step == "Finish":
        put_mark(folder, record, "rotated")
    return new
