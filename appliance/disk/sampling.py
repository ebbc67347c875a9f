"""Places of a drive that are read before and after it was erased, and what the two say of each other.

Places are drawn by chance from a thousand equal parts of the drive, two of each, with the first and the
last block of all: in the manner of NIST SP 800-88 Rev. 1, section 4.7 (representative sampling), whose
share is not reached on a drive of any size.  How much was looked at is said with the result.

A place that could not be read before proves nothing, nor does one that held one byte over and over.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from appliance.errors import Usage
from appliance.tcg.blocks import BLANK, UNREADABLE
from appliance.trust.canonical import NotCanonicalError, canonical_bytes, parse_canonical

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Bytes at each place, parts of a drive, places of each part.
LENGTH: Final = 4096
PARTS: Final = 1000
PER_PART: Final = 2
#: A file with a sample is no longer.
LONGEST: Final = 1024 * 1024

#: By whose PIN a drive is erased: its owner's, or that of its label.
By = Literal["SID", "PSID"]
Verdict = Literal["verified", "partly verified", "not verified", "failed"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What lay at some places of a drive.

    Attributes:
        serial: whose.
        time: when it was taken, RFC 3339 UTC.
        key: of the digests, in hexadecimal; nobody keeps it longer than the comparison takes.
        places: in bytes.
        told: for each place what ``appliance.tcg.blocks`` told of it.
        ranges: of the drive that were opened to be read; empty where none could be.
        by: whose PIN was to erase it.
        volume: UUID of the LUKS volume; empty without one.
    """

    serial: str
    time: str
    key: str
    places: Sequence[int]
    told: Sequence[str]
    ranges: Sequence[Mapping[str, int]]
    by: By
    volume: str = ""

    def to_bytes(self) -> bytes:
        """As a file."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return canonical_bytes(
            values
            | {"places": list(self.places), "told": list(self.told), "ranges": [*map(dict, self.ranges)]}
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many places are what; all of them together are ``places``."""

    places: int
    changed: int
    unchanged: int
    blank: int
    unreadable_before: int
    unreadable_after: int

    @property
    def verdict(self) -> Verdict:
        """What that proves: "partly" where some places could not be read before."""
        if self.unchanged:
            return "failed"
        if not self.changed or self.unreadable_after:
            return "not verified"
        return "partly verified" if self.unreadable_before else "verified"


def choose_places(size: int) -> list[int]:
    """Offsets in bytes, ascending, each a multiple of ``LENGTH``, in a drive of so many bytes."""
    chance, units = SystemRandom(), size // LENGTH
    parts = min(PARTS, max(1, units // PER_PART))
    chosen = {0, units - 1}
    for part in range(parts):
        within = range(units * part // parts, units * (part + 1) // parts)
        chosen.update(chance.sample(within, min(PER_PART, len(within))))
    return [unit * LENGTH for unit in sorted(chosen)]


def compare(before: Sequence[str], after: Sequence[str]) -> Comparison:
    """What two readings of the same places say of each other."""
    pairs = list(zip(before, after, strict=True))
    told = [(one, other) for one, other in pairs if not one.startswith(UNREADABLE) and one != BLANK]
    read = [(one, other) for one, other in told if not other.startswith(UNREADABLE)]
    unchanged = sum(one == other for one, other in read)
    return Comparison(
        places=len(pairs),
        changed=len(read) - unchanged,
        unchanged=unchanged,
        blank=sum(one == BLANK for one, _ in pairs),
        unreadable_before=sum(one.startswith(UNREADABLE) for one, _ in pairs),
        unreadable_after=len(told) - len(read),
    )


def parse_sample(data: bytes, name: str) -> Sample:
    """Read a file with a sample.

    Raises:
        Usage: it is none.
    """
    try:
        values: Any = parse_canonical(data, limit=LONGEST)
        sample = Sample(**values)
        whole = len(sample.places) == len(sample.told) and sample.by in get_args(By)
        whole = whole and all(isinstance(one, str) for one in sample.told)
        if sample.to_bytes() != data or not whole:
            raise ValueError("not a sample")
        bytes.fromhex(sample.key)
    except (NotCanonicalError, TypeError, ValueError) as fault:
        raise Usage(
            f"{name} is no sample of a drive",
            found=f"{type(fault).__name__}",
            wanted="the file that disk retire wrote before it erased the drive",
            hint="without it nobody can show that sectors changed; take it away to begin again",
        ) from None
    return sample
