"""Which files of the base a new file is likely to be like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.patch.encoding import SMALL
from appliance.bundle.patch.holdings import OUTSIDE

if TYPE_CHECKING:
    from appliance.bundle.patch.holdings import HeldFile, Holdings


def bases_for(file: HeldFile, holdings: Holdings) -> list[HeldFile]:
    """Files whose bytes are at hand, best first; empty if none is likely.

    The one under the same path; else of the same component the one of the same name (a package's, of
    another version); else, for long files, all long ones of the component, since weights may be divided
    otherwise.
    """
    if file.size == 0:
        return []
    if (same := holdings.files.get(file.path)) is not None and same.size:
        return [same]
    if file.component == OUTSIDE:
        return []
    if named := holdings.by_name.get((file.component, file.name)):
        return [min(named, key=lambda each: (abs(each.size - file.size), each.path))]
    return holdings.longer_than(SMALL, file.component) if file.size > SMALL else []
