"""How a recovery volume covers the others: the first part of each, then the second part of each …

A stripe takes from every volume a run of files of about 1 GiB and has as many recovery blocks as the
largest of these runs has blocks.  So whichever volume is lost, every stripe can bring back its part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.parity.sets import Member, ParitySet, choose_block_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_RUN: Final = 1 << 30
#: Every file takes a block, and blocks are large where runs are: more files would cost more than 1 GiB.
_MAX_FILES: Final = 256
_PATTERN: Final = "stripe-[0-9][0-9][0-9][0-9].par2"


@dataclass(frozen=True, slots=True)
class Stripe:
    """One stripe, as a set whose members are named ``<volume's number>/<path in the bundle>``."""

    parity: ParitySet

    @property
    def file_name(self) -> str:
        return f"stripe-{self.parity.number:04d}.par2"


def plan_stripes(volumes: Mapping[int, Sequence[Member]]) -> tuple[Stripe, ...]:
    """The stripes for these volumes' files, by number and in the bundle's order."""
    runs = [list(_runs(number, members)) for number, members in sorted(volumes.items())]
    stripes = []
    for index in range(max((len(each) for each in runs), default=0)):
        parts = [each[index] for each in runs if index < len(each)]
        members = tuple(member for part in parts for member in part)
        block_size = choose_block_size(members)
        recovery = max(sum(member.blocks(block_size) for member in part) for part in parts)
        stripes.append(Stripe(ParitySet(index, members, block_size, recovery)))
    return tuple(stripes)


def stripe_files(folder: Path) -> list[Path]:
    """The files with a recovery volume's stripes."""
    return sorted(path for path in folder.glob(_PATTERN) if path.is_file() and not path.is_symlink())


def bundle_path(name: str) -> str:
    """The path in the bundle of a stripe's member."""
    return name.partition("/")[2]


def _runs(number: int, members: Sequence[Member]) -> Iterator[list[Member]]:
    run: list[Member] = []
    size = 0
    for member in members:
        named = Member(f"{number}/{member.path}", member.size)
        if run and (len(run) == _MAX_FILES or size + member.size > _RUN):
            yield run
            run, size = [], 0
        run.append(named)
        size += member.size
    if run:
        yield run
