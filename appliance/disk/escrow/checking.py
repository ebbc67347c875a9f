"""Whether an escrow is whole, and whether keys at hand open it; no secret comes out of here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from appliance.disk.escrow.files import names_in, newest_generation
from appliance.disk.escrow.keeping import Kept, kept_in
from appliance.disk.escrow.marks import marks_of
from appliance.disk.escrow.sealing import open_sealed
from appliance.errors import ApplianceError, EscrowClosed, EscrowInvalid, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.disk.escrow.record import Purpose, Record
    from appliance.disk.escrow.sealing import Openers

Outcome = Literal["whole", "opened", "closed", "invalid"]


@dataclass(frozen=True, slots=True)
class Checked:
    """How one record came out; ``record`` is None where it is none, ``fault`` what is wrong."""

    outcome: Outcome
    record: Record | None = None
    fault: ApplianceError | None = None

    def as_dict(self) -> dict[str, object]:
        """As JSON values; the record as it stands in the open."""
        return {
            "outcome": self.outcome,
            "record": None if self.record is None else self.record.inner(),
            "fault": None if self.fault is None else self.fault.as_dict(),
        }


def check_escrow(folder: Path, openers: Openers | None = None) -> tuple[Checked, ...]:
    """Check every record of a folder; with keys, open each too.

    Raises:
        PreflightFailed: the folder cannot be read.
    """
    return tuple(_checked(one, openers) for one in kept_in(folder))


def _checked(one: Kept | EscrowInvalid, openers: Openers | None) -> Checked:
    if isinstance(one, EscrowInvalid):
        return Checked("invalid", fault=one)
    if openers is None:
        return Checked("whole", one.record)
    try:
        open_sealed(one.record, one.files, openers)
    except EscrowClosed as fault:
        return Checked("closed", one.record, fault)
    except EscrowInvalid as fault:
        return Checked("invalid", one.record, fault)
    return Checked("opened", one.record)


def without_header(checked: Sequence[Checked]) -> tuple[Record, ...]:
    """The newest keys of each drive that have no header beside them: never used, or left half-way."""
    records = [one.record for one in checked if one.record is not None]
    headers = {(one.drive.serial, one.generation) for one in records if one.purpose == "header"}
    newest = {one.drive.serial: one for one in sorted(records, key=lambda one: one.generation)}
    return tuple(one for one in newest.values() if (one.drive.serial, one.generation) not in headers)


def retired(folder: Path, checked: Sequence[Checked]) -> tuple[Record, ...]:
    """Keys of drives that were erased for good (docs/disk.md says what may become of them)."""
    keys = [one.record for one in checked if one.record is not None and one.record.purpose == "keys"]
    return tuple(one for one in keys if "retired" in marks_of(folder, one))


def choose(folder: Path, serial: str, purpose: Purpose, generation: int | None = None) -> Kept:
    """One drive's record: the newest, or that of a generation.

    Never an older one in place of the newest: its PIN would be tried on a drive that counts.  Keys of a
    rotation that the drive was not given yet do not count.

    Raises:
        Usage: there is none, or a rotation was begun: which keys open what, the drive says.
        EscrowInvalid: the newest is damaged or missing, or a record of the folder that may be the one.
        PreflightFailed: the folder cannot be read.
    """
    every = kept_in(folder)
    fitting = [
        one
        for one in every
        if isinstance(one, Kept)
        and (one.record.drive.serial, one.record.purpose) == (serial, purpose)
        and generation in {None, one.record.generation}
    ]
    if generation is None:
        fitting, unused = _used(folder, fitting)
    if fitting:
        chosen = max(fitting, key=lambda one: one.record.generation)
        if generation is not None:
            return chosen
        newest = newest_generation(folder, serial, f"{purpose}.")
        if newest > chosen.record.generation and newest not in unused:
            raise EscrowInvalid(
                f"the newest {purpose} of {ascii(serial)[1:-1]} cannot be opened: generation {newest}",
                found=f"its record is damaged or missing; {chosen.record.stem} is whole",
                hint="take it from another copy of the escrow; --generation names an older one",
            )
        _refuse_begun(folder, chosen.record)
        return chosen
    if damaged := [one for one in every if isinstance(one, EscrowInvalid)]:
        raise damaged[0]
    known = sorted({one.record.drive.serial for one in every if isinstance(one, Kept)})
    raise Usage(
        f"the escrow has no {purpose} of {ascii(serial)[1:-1]}",
        found=f"records of {', '.join(known)}" if known else "no record",
        wanted="a serial number, and a generation of it where one is named",
        hint="appliance disk escrow check lists them",
    )


def _used(folder: Path, kept: Sequence[Kept]) -> tuple[list[Kept], set[int]]:
    """Those of a drive's keys that it may have, and the generations of a rotation that it was not given."""
    there = names_in(folder)
    unused = {
        one.record.generation
        for one in kept
        if one.record.purpose == "keys" and one.record.volume and f"{one.record.stem}.given" not in there
    }
    return [one for one in kept if one.record.generation not in unused], unused


def _refuse_begun(folder: Path, keys: Record) -> None:
    if keys.purpose == "keys" and keys.volume and "rotated" not in marks_of(folder, keys):
        raise Usage(
            f"a rotation to {keys.stem} was begun and not ended: what opens what, the escrow cannot say",
            wanted="--generation, as disk rotate --look says for passphrase, administrator and owner",
            hint="end it with disk rotate; a PIN is tried once",
        )
