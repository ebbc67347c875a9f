"""How far a sink has come in an archive: a file beside the output, replaced in one step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import replace_file
from appliance.errors import ExportLogDamaged
from appliance.export.segments import Place
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from pathlib import Path

_MARK: Final = re.compile(r"[0-9]{1,20}:[0-9]{1,20}")
_MAX_CURSOR: Final = 1024


def write_cursor(path: Path, place: Place, mark: str) -> None:
    """Say that the sink has what is before ``place``; ``mark`` is the sink's own, ``N:N`` or empty."""
    replace_file(path, canonical_bytes({"segment": place.segment, "offset": place.offset, "mark": mark}))


def read_cursor(path: Path, end: Place) -> tuple[Place, str] | None:
    """Place and mark as they were written; None if they never were.

    Raises:
        ExportLogDamaged: the file is no cursor, or one of an archive that went beyond this end.
    """
    if not path.exists():
        return None
    try:
        value = parse_canonical(path.read_bytes(), limit=_MAX_CURSOR)
        top = Record(value, str(path), ExportLogDamaged)
    except NotCanonicalError as fault:
        raise ExportLogDamaged(
            f"{path} is no cursor",
            found=str(fault),
            hint="remove it: then everything in the archive is written once more",
        ) from fault
    top.exactly(frozenset({"segment", "offset", "mark"}))
    mark = top.raw("mark")
    if not isinstance(mark, str) or (mark and not _MARK.fullmatch(mark)):
        top.refuse("mark is none")
    place = Place(top.number("segment"), top.number("offset"))
    if place > end:
        raise ExportLogDamaged(
            f"{path} is ahead of its archive",
            found=f"segment {place.segment}, byte {place.offset:,}",
            wanted=f"segment {end.segment}, byte {end.offset:,}, or before",
            hint="was the archive put back from an old copy? Remove the cursor: then everything in the"
            " archive is written once more",
        )
    return place, mark
