"""The files of one volume, in the order they are written, and in portions that are proved together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.media.label import SPARE_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.media.cargo import Cargo, Part
    from appliance.bundle.media.plan import PlannedVolume

#: Written and flushed together, then read back together: large enough that a disk need not wait for
#: each small file, small enough that little is repeated after a fault.
_BATCH_BYTES: Final = 1 << 30
_BATCH_FILES: Final = 2000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a volume: its number and path there, and what of the bundle it is."""

    number: int
    path: str
    part: Part


def volume_entries(cargo: Cargo, volume: PlannedVolume) -> list[Entry]:
    """Every file of a volume but its label, in the order they are written."""
    pairs = [(part.path, part) for part in cargo.root]
    pairs += [(f"{SPARE_FOLDER}/{part.path}", part) for part in cargo.spare]
    pairs += [(part.path, part) for part in volume.parts]
    return [Entry(number, path, part) for number, (path, part) in enumerate(pairs)]


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in portions that are brought to the medium together."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and (size + entry.part.size > _BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.part.size
    if batch:
        yield batch
