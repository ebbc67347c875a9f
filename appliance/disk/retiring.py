"""Retiring a drive: steps by ``appliance.disk.retirement``; nothing is believed of what a step said it did.

It is erased by its owner's PIN, which the escrow opens, or where somebody says so by its PSID.  Either way
the TPer is reverted: all its media keys are new, those of blocks outside of any range too.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from appliance.bundle.durable import sync_folder, writing_under
from appliance.disk.certificate import Certified, Who, certify
from appliance.disk.enrolling import records_in
from appliance.disk.escrow.files import put_file, read_file
from appliance.disk.escrow.given import void_given
from appliance.disk.escrow.keeping import Escrowed, escrowed_before
from appliance.disk.escrow.marks import put_mark
from appliance.disk.escrow.record import spelled
from appliance.disk.retirement import SAYS, Seen, next_step, refuse_unfit
from appliance.disk.rotation import Seen as Rotated
from appliance.disk.rotation import standing
from appliance.disk.sampling import LENGTH, LONGEST, Sample, choose_places, compare, parse_sample
from appliance.disk.selection import select_drive
from appliance.disk.state import read_state
from appliance.errors import DriveUnsuitable, Usage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.disk.confirmation import Confirmation
    from appliance.disk.escrow.sealing import Openers
    from appliance.disk.sampling import By
    from appliance.disk.secret import Secret
    from appliance.disk.state import Drive


class Doer(Protocol):
    """Whoever does things to drives of one machine, having made sure that each is the one that was read."""

    def read(self) -> dict[str, Any]:
        """The readings of the machine, as they are now."""

    def act(self, drive: Drive, act: str, **wanted: Secret | str | int | list[int]) -> dict[str, Any]:
        """An act of ``appliance.tcg.program``."""

    def reset(self, drive: Drive, psid: Secret) -> None:
        """Take a drive back to as it was made."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked for.

    Attributes:
        path: the drive's device node.
        confirmed: its serial number, as it was typed, or a permit.
        host: the node's name.
        report: a folder for the sample and what comes of it.
        who: what a certificate says of people and places.
        escrow: where its keys are, if anywhere.
        keys: of owner and administrator, opened; None where they are not at hand.
        psid: to erase it by; None to erase it by ``keys``.
    """

    path: str
    confirmed: Confirmation
    host: str
    report: Path
    who: Who
    escrow: Path | None = None
    keys: Escrowed | None = None
    psid: Secret | None = None


def retire(
    doer: Doer, request: Request, *, now: Callable[[], str], told: Callable[[str], None]
) -> Certified:
    """Erase a drive, and show as far as can be shown that it is.

    Args:
        doer: who does it.
        request: what is wanted.
        now: the time, RFC 3339 UTC.
        told: called with a line before each step; there is no secret in it.

    Returns:
        What came of it; whether it says that the drive is sanitized is to be asked.

    Raises:
        Usage, PermitRefused, DriveUnsuitable: refused before anything was changed, or stopped.
        EscrowInvalid, PreflightFailed, ApplyFailed: a step failed.
    """
    drive = look(doer, request.path)
    path = request.report / f"{spelled(drive.serial)}.before.json"
    seen = Seen(drive, _kept(path))
    while True:
        step = next_step(seen)
        drive = seen.drive
        volume = seen.sample.volume if seen.sample is not None else _volume(drive)
        request.confirmed.require("retire", drive, volume)
        if step in {"Sample", "Erase"} and request.psid is None and request.keys is None:
            raise Usage("by what shall it be erased?", wanted="keys of the escrow, or --psid-file FILE")
        told(SAYS[step].format(drive.serial))
        if step == "Sample":
            sample = _take_sample(doer, request, drive, now())
            _keep(path, sample.to_bytes())
            seen = Seen(look(doer, request.path), sample, fresh=True)
        elif step == "Erase":
            _erase(doer, request, drive)
            seen = Seen(look(doer, request.path), seen.sample, fresh=True, erased=True)
        elif seen.sample is not None and step == "Compare":
            after = _read(doer, drive, seen.sample.places, seen.sample.key)
            comparison = compare(seen.sample.told, after)
            seen = Seen(look(doer, request.path), seen.sample, comparison=comparison)
        elif seen.sample is not None and seen.comparison is not None:
            done = certify(
                drive, seen.sample, seen.comparison, who=request.who, host=request.host, ended=now()
            )
            _write(request, drive, path, done)
            return done


def look(doer: Doer, path: str) -> Drive:
    """A drive as it is now, which may be retired as far as its use and kind go.

    Raises:
        DriveUnsuitable: it may not be.
    """
    drive = select_drive(read_state(doer.read())[1], path)
    refuse_unfit(drive)
    return drive


def keys_at_hand(rotated: Rotated, folder: Path, openers: Openers) -> Escrowed:
    """The keys by which a drive is opened and erased, of which nobody has to try which they are.

    Args:
        rotated: how drive and escrow stand (``rotating.look``).
        folder: the escrow.
        openers: what opens it.

    Raises:
        DriveUnsuitable: owner and administrator have PINs of two generations.
        EscrowInvalid, EscrowClosed, PreflightFailed: the keys cannot be had.
    """
    stands = standing(rotated)
    if stands.owner is None or stands.owner != stands.administrator or stands.which != "Admin1":
        raise DriveUnsuitable(
            f"{rotated.drive.path} may not be retired: rotating",
            found="a change of its keys was begun and not ended",
            hint="end it with disk rotate; or --psid-file, without --identity",
        )
    keys = (rotated.keys.before, rotated.keys.next)
    record = next(one for one in keys if one is not None and one.generation == stands.owner)
    return escrowed_before(folder, record, openers)


def _take_sample(doer: Doer, request: Request, drive: Drive, time: str) -> Sample:
    ranges: list[dict[str, int]] = []
    if request.keys is not None:
        ranges = doer.act(drive, "open-ranges", pin=request.keys.pin())["ranges"]
    key, places = secrets.token_hex(32), choose_places(drive.size)
    told = _read(doer, drive, places, key)
    by: By = "SID" if request.psid is None else "PSID"
    return Sample(drive.serial, time, key, places, told, ranges, by, _volume(drive) or "")


def _read(doer: Doer, drive: Drive, places: Any, key: str) -> list[str]:
    told: list[str] = doer.act(drive, "sample", places=list(places), length=LENGTH, key=key)["told"]
    return told


def _erase(doer: Doer, request: Request, drive: Drive) -> None:
    if request.psid is not None:
        doer.reset(drive, request.psid)
    elif request.keys is not None:
        doer.act(drive, "revert", pin=request.keys.pin())


def _volume(drive: Drive) -> str | None:
    return None if drive.luks is None else drive.luks.uuid


def _kept(path: Path) -> Sample | None:
    return parse_sample(read_file(path, LONGEST), path.name) if path.exists() else None


def _keep(path: Path, data: bytes) -> None:
    """In place of what a run before left, of a drive that it did not erase."""
    with writing_under(path.parent):
        path.unlink(missing_ok=True)
    put_file(path.parent, path.name, data)


def _write(request: Request, drive: Drive, sample: Path, done: Certified) -> None:
    """The certificate first, then marks beside the keys; the sample, with the key of its digests, last."""
    for name, data in done.files.items():
        put_file(request.report, name, data)
    if request.escrow is not None and done.sanitized:
        records = records_in(request.escrow, drive)
        void_given(request.escrow, records)
        for one in records:
            if one.purpose == "keys":
                put_mark(request.escrow, one, "retired", done.digest)
    with writing_under(request.report):
        sample.unlink(missing_ok=True)
        sync_folder(request.report)
