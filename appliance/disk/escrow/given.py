"""Marks of keys that a drive was really given: ``STEM.given``, made right before the drive gets them.

Keys in an escrow say nothing of a drive that somebody owns: they may never have been used, and the drive
may be anybody's.  A mark says that it was about to get these keys, and nobody else's, when nobody owned it.
It holds the UUID of the volume that was to be made, so that a mark of other keys is noticed.

A drive that says later that nobody owns it does not have them: cryptsetup failed, or it was reset.  (Not so
where dm-crypt alone encrypts, of which the drive knows nothing.)  Then
``STEM.void`` is put beside the mark, and the mark counts for nothing, whoever takes the drive after that.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from appliance.disk.escrow.files import names_in, put_file, read_file
from appliance.errors import EscrowInvalid, EscrowUnproven

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.disk.escrow.record import Record

_LONGEST: Final = 64


def mark_given(folder: Path, keys: Record) -> None:
    """Mark that a drive gets these keys now; on the disk when this returns.

    Raises:
        EscrowUnproven: they were given before, or the mark does not come back.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    name, text = f"{keys.stem}.given", _text(keys)
    try:
        put_file(folder, name, text)
    except FileExistsError:
        raise _unproven(keys, "they were given to a drive before") from None
    if read_file(folder / name, _LONGEST) != text:
        raise _unproven(keys, f"{name} does not come back as it was written")


def void_given(folder: Path, records: Sequence[Record]) -> None:
    """Void all marks of a drive, of which nobody is the owner now, but those of dm-crypt alone.

    Raises:
        EscrowInvalid: a mark is damaged.
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    given = given_among(folder, records)
    for one in records:
        if one.purpose == "keys" and one.generation in given and one.layers != "dm-crypt":
            with suppress(FileExistsError):
                put_file(folder, f"{one.stem}.void", _text(one))


def given_among(folder: Path, records: Sequence[Record]) -> frozenset[int]:
    """Generations of those keys among a drive's records that the drive was given, and may still have.

    Raises:
        EscrowInvalid: a mark is damaged, or of other keys.
        PreflightFailed: the folder cannot be read.
    """
    there = set(names_in(folder))
    marked = [
        one
        for one in records
        if one.purpose == "keys" and f"{one.stem}.given" in there and f"{one.stem}.void" not in there
    ]
    for one in marked:
        if read_file(folder / f"{one.stem}.given", _LONGEST) != _text(one):
            raise EscrowInvalid(
                f"{one.stem}.given is damaged, or the mark of other keys",
                wanted=f"the volume's UUID, {one.uuid}",
                hint="take record, sealed files and mark from one copy of the escrow",
            )
    return frozenset(one.generation for one in marked)


def _text(keys: Record) -> bytes:
    return f"{keys.uuid}\n".encode("ascii")


def _unproven(keys: Record, found: str) -> EscrowUnproven:
    return EscrowUnproven(
        f"the drive was not given {keys.stem}",
        found=found,
        wanted="a mark in the escrow that it gets them now",
        hint="nothing was done to the drive; begin again",
    )
