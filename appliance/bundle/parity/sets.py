"""Which files share recovery data, and in blocks of which size: decided from paths and sizes alone.

A set is a run of files in the bundle's order.  PAR2 knows at most 32,768 blocks in a set, and every
file takes whole blocks, so both the number of files and the size of blocks are bounded.  The file that
holds a set's recovery blocks stays below the 2 GB at which common scanners stop looking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.paths import (
    BLOCKS_PATH,
    BOOTSTRAP_PATH,
    REVIEW_PATH,
    SBOM_PATH,
    is_slice,
    parity_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.bundle.manifest import Manifest

#: PAR2 2.0 allows this many source blocks; implementations count no further.
MAX_BLOCKS: Final = 32_768
MAX_FILES: Final = 16_000
MIN_BLOCK: Final = 4 << 10
MAX_BLOCK: Final = 4 << 20

#: With the file that is cut off at its end, a set stays below 32 GiB.
_MAX_SET: Final = 31 << 30
_MAX_RECOVERY: Final = 1750 << 20
#: The time that parity takes grows with blocks times bytes; damage costs one block for each place.
_BLOCKS: Final = 4096
#: A set's paths are arguments of one program, for which Linux has 2 MiB (execve(2)).
_MAX_PATHS: Final = 1 << 20

#: Root files that parity covers, as far as they are there.  Of the manifest and of ``trust/`` it cannot:
#: these name its own digest, or are needed to believe anything.  Volumes carry second copies of them.
_COVERED: Final = (BLOCKS_PATH, REVIEW_PATH, BOOTSTRAP_PATH, SBOM_PATH)


@dataclass(frozen=True, slots=True)
class Member:
    """A file that a set covers, as it lies in the bundle; ``size`` in bytes, at least one."""

    path: str
    size: int

    def blocks(self, block_size: int) -> int:
        """How many blocks it takes; the last is filled up with zeros."""
        return -(-self.size // block_size)


@dataclass(frozen=True, slots=True)
class ParitySet:
    """Set ``number``: its files, the size of its blocks in bytes, and how many recovery blocks it has."""

    number: int
    members: tuple[Member, ...]
    block_size: int
    recovery: int

    @property
    def path(self) -> str:
        """Where its recovery blocks lie in the bundle."""
        return parity_path(self.number)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(member.size for member in self.members)

    @property
    def parity_size(self) -> int:
        """An upper bound, in bytes, of the file with its recovery blocks."""
        blocks = sum(member.blocks(self.block_size) for member in self.members)
        described = sum(len(member.path) + 256 for member in self.members) + 20 * blocks
        return self.recovery * (self.block_size + 68) + 2 * (described + 512)


def covered(manifest: Manifest) -> Iterator[Member]:
    """The files that parity covers: payload as it lies there, then root files.  Empty ones need none."""
    for file in manifest.payload():
        for path, part in file.parts():
            if part.size:
                yield Member(path, part.size)
    for path in _COVERED:
        if path in manifest.files and manifest.files[path].size:
            yield Member(path, manifest.files[path].size)


def divide(members: Sequence[Member], percent: int) -> tuple[ParitySet, ...]:
    """The sets for these files, in their order.

    Args:
        members: each of at most 1 GiB.
        percent: recovery blocks for each hundred blocks; 0 for no parity.  A set with a slice in it, and
            each where the bytes need several, has at least as many recovery blocks as its largest file
            has blocks: so any slice may be lost (docs/decisions/0028).
    """
    if not percent or not members:
        return ()
    total = sum(member.size for member in members)
    count = -(-total // min(_MAX_SET, _MAX_RECOVERY * 100 // percent - (1 << 30)))
    sets: list[ParitySet] = []
    for run in _runs(members, total, count):
        block_size = choose_block_size(run)
        blocks = [member.blocks(block_size) for member in run]
        recovery = -(-sum(blocks) * percent // 100)
        least = max(blocks) if count > 1 or any(is_slice(member.path) for member in run) else 1
        sets.append(ParitySet(len(sets), tuple(run), block_size, max(recovery, least)))
    return tuple(sets)


def choose_block_size(members: Sequence[Member]) -> int:
    """The smallest power of two that makes few enough blocks.

    Few blocks are quick to work with; many small files need small ones, since each takes a whole block.
    """
    most = min(MAX_BLOCKS, max(_BLOCKS, 2 * len(members)))
    size = MIN_BLOCK
    while size < MAX_BLOCK and sum(member.blocks(size) for member in members) > most:
        size *= 2
    return size


def _runs(members: Sequence[Member], total: int, count: int) -> Iterator[list[Member]]:
    """``count`` runs of about equal bytes, divided further where they hold too many files."""
    run: list[Member] = []
    share = start = length = 0
    for member in members:
        here = start * count // total
        length += len(member.path) + 1
        if run and (here != share or len(run) == MAX_FILES or length > _MAX_PATHS):
            yield run
            run, length = [], len(member.path) + 1
        share = here
        run.append(member)
        start += member.size
    yield run
