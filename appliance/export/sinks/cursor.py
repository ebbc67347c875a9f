"""How far a sink has come in an archive, and where to: a file beside the output, replaced in one step.

A position says that everything before it is there; at another place it says nothing.  So it names its
place, and is not believed of another one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import replace_file
from appliance.errors import ExportLogDamaged, ExportTargetChanged
from appliance.export.segments import Place
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical
from appliance.trust.record import Record

if TYPE_CHECKING:
    from pathlib import Path

_MARK: Final = re.compile(r"[0-9]{1,20}:[0-9]{1,20}")
_MAX_CURSOR: Final = 1024


def write_cursor(path: Path, place: Place, mark: str, target: str = "") -> None:
    """Say that the sink has what is before ``place``.

    Args:
        path: the file.
        place: in the archive.
        mark: the sink's own, ``N:N`` or empty.
        target: where the sink brings it, in a few words; empty where the file's own name says it.
    """
    values = {"segment": place.segment, "offset": place.offset, "mark": mark}
    replace_file(path, canonical_bytes({**values, "target": target} if target else values))


def read_cursor(path: Path, end: Place, target: str = "") -> tuple[Place, str] | None:
    """Place and mark as they were written; None if they never were.

    Raises:
        ExportLogDamaged: the file is no cursor, or one of an archive that went beyond this end.
        ExportTargetChanged: it was written of another target.
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
    top.exactly(frozenset({"segment", "offset", "mark"}), frozenset({"target"}))
    mark = top.raw("mark")
    if not isinstance(mark, str) or (mark and not _MARK.fullmatch(mark)):
        top.refuse("mark is none")
    # Positions of version 0.1.0 name no target: they are taken for those of this one.
    if top.has("target") and (former := top.text("target")) != target:
        raise ExportTargetChanged(
            f"{path} is of another target: what is before it went there, and would be missing here",
            found=f"now {target or 'none'}",
            wanted=former,
            hint="name the former one again; or remove the file: then all of the archive goes there",
        )
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
