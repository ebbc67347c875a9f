"""Two programs side by side on a machine that is not always the same: pairs of runs, and what they say.

One ratio of two runs says little: the disk, other programs and, where the machine is a virtual one, other
machines make either of them slower.  So runs are interleaved, with the order changed from pair to pair;
pairs during which anything else was busy, or the machine itself was slow, do not count; and of those that
do, at least ``ENOUGH``, the best run of each side is compared with the best of the other.  The median ratio
is shown beside it: a side that finds memory which the one before it has just freed is at its best there.

Before each run the memory it fills is used once, where the caller says how much that is.  How slow the
machine is, is told by a fixed piece of work right before and after each run: hashing, which
every program measured here does too.
"""

from __future__ import annotations

import hashlib
import mmap
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.conftest import Cost

#: Pairs that must count, and how many are tried for that.
ENOUGH: Final = 5
MOST: Final = 14
#: How much slower than at its best the machine may be around a run that counts.
SLOWER: Final = 1.15
_PIECE: Final = bytes(1 << 20)
_PIECES: Final = 64


@dataclass(frozen=True)
class Run:
    """What a run cost, and the seconds that the fixed piece of work took around it, the slower of two."""

    cost: Cost
    pace: float


@dataclass
class Pairs:
    """Pairs of runs, ours first; ``others`` is how much of a core others may use during one that counts."""

    others: float
    every: list[tuple[Run, Run]] = field(default_factory=list)

    @property
    def quiet(self) -> list[tuple[Run, Run]]:
        """The pairs that count."""
        best = min(run.pace for pair in self.every for run in pair)
        return [
            pair
            for pair in self.every
            if all(run.cost.others <= self.others and run.pace <= SLOWER * best for run in pair)
        ]

    @property
    def is_enough(self) -> bool:
        return bool(self.every) and len(self.quiet) >= ENOUGH

    @property
    def ratio(self) -> float:
        """Wall time of the best run of ours by that of theirs, of the pairs that count."""
        ours, theirs = self.wall
        return ours / theirs

    @property
    def median(self) -> float:
        """The median of the ratios in wall time, of the same pairs."""
        return statistics.median(ours.cost.wall / theirs.cost.wall for ours, theirs in self.quiet)

    @property
    def wall(self) -> tuple[float, float]:
        """The least seconds of each side, ours first, of the pairs that count."""
        return self._best("wall", self.quiet)

    @property
    def cpu(self) -> tuple[float, float]:
        """The least CPU seconds of each side, of all pairs."""
        return self._best("cpu", self.every)

    @property
    def memory(self) -> int:
        """The most bytes that ours ever held."""
        return max(pair[0].cost.memory for pair in self.every)

    def __str__(self) -> str:
        counts = self.quiet
        return "\n".join(
            f"  {_shown(ours)}, theirs {_shown(theirs)}: {ours.cost.wall / theirs.cost.wall:.2f}"
            + ("" if (ours, theirs) in counts else ", does not count")
            for ours, theirs in self.every
        )

    def summary(self, ours: str, theirs: str, limit: float) -> str:
        """What the pairs say, for people, with the names of both sides; ``limit`` is the one promised."""
        (wall, their_wall), (cpu, their_cpu) = self.wall, self.cpu
        return (
            f"{ours} {wall:.2f} s ({cpu:.2f} s CPU), {theirs} {their_wall:.2f} s ({their_cpu:.2f} s CPU) "
            f"at best: {self.ratio:.2f} (at most {limit}); median of pairs {self.median:.2f}"
        )

    @staticmethod
    def _best(what: str, pairs: list[tuple[Run, Run]]) -> tuple[float, float]:
        ours, theirs = (min(getattr(pair[side].cost, what) for pair in pairs) for side in (0, 1))
        return ours, theirs


def run_pairs(
    ours: Callable[[int], Cost], theirs: Callable[[int], Cost], *, others: float, memory: int = 0
) -> Pairs:
    """Run both in turn until enough pairs count, or ``MOST`` were tried.

    Args:
        ours: runs one of the two, given the number of the pair, and says what it cost.
        theirs: likewise the other.
        others: of a core, that everything else may use during a run that counts.
        memory: bytes that a run fills, its files among them: the machine is given them before each.
    """
    pairs = Pairs(others)
    for number in range(MOST):
        if pairs.is_enough:
            break
        if number % 2:
            second = _paced(theirs, number, memory)
            pairs.every.append((_paced(ours, number, memory), second))
        else:
            pairs.every.append((_paced(ours, number, memory), _paced(theirs, number, memory)))
    return pairs


def _paced(run: Callable[[int], Cost], number: int, memory: int) -> Run:
    _warm(memory)
    before = _pace()
    cost = run(number)
    return Run(cost, max(before, _pace()))


def _pace() -> float:
    """Seconds for the fixed piece of work."""
    digest, started = hashlib.sha256(), time.perf_counter()
    for _ in range(_PIECES):
        digest.update(_PIECE)
    return time.perf_counter() - started


def _warm(size: int) -> None:
    """Use so much memory, and give it back: the next who wants some finds what this machine really has.

    A virtual machine returns free memory to its host, and the first use of each page afterwards costs more
    than writing a file to it: seconds for each GiB, to whoever comes first.
    """
    if size:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _shown(run: Run) -> str:
    cost = run.cost
    return (
        f"{cost.wall:.2f} s ({cost.cpu:.2f} s CPU, others {cost.others:.2f}, pace {run.pace * 1e3:.0f} ms)"
    )
