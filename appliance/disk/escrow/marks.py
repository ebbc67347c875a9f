"""Marks beside keys in an escrow: how far a rotation is, and that a drive was retired.

``STEM.NAME`` holds one line.  Each is made once, and is on the disk before what it announces is done, or
after what it tells of was done:

============  ======================================================================================
``opening``   the drive's owner (SID) is about to get the PIN that everybody can read
``opened``    it has that one, as the drive answered
``setting``   it is about to get the PIN of these keys
``set``       it has that one, as the drive answered
``rotated``   the drive has these keys and none before; until then ``disk rotate --look`` says what opens
``retired``   the drive was reset for good, and its certificate's SHA-256: whoever holds the escrow may
              destroy its files (docs/disk.md).  Nothing here does.
============  ======================================================================================

That the drive gets any of these keys says ``given`` (``appliance.disk.escrow.given``).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, get_args

from appliance.disk.escrow.files import names_in, put_file

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.disk.escrow.record import Record

Mark = Literal["opening", "opened", "setting", "set", "rotated", "retired"]
_MARKS: Final = get_args(Mark)


def put_mark(folder: Path, keys: Record, mark: Mark, says: str = "") -> None:
    """Put a mark beside keys; one that is there already stays as it is.

    Args:
        folder: the escrow.
        keys: their record.
        mark: which.
        says: its line; the mark of the keys if left out.

    Raises:
        SpaceExhausted, PreflightFailed: it could not be written.
    """
    with suppress(FileExistsError):
        put_file(folder, f"{keys.stem}.{mark}", f"{says or keys.mark}\n".encode("ascii"))


def marks_of(folder: Path, keys: Record) -> frozenset[str]:
    """The marks beside keys.

    Raises:
        PreflightFailed: the folder cannot be read.
    """
    there = set(names_in(folder))
    return frozenset(mark for mark in _MARKS if f"{keys.stem}.{mark}" in there)
