"""The way ratios are found: right on a machine that is slower at times, silent on one that is never free.

Not a benchmark itself: the machine is made up here, from chance that is the same in every run.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench import pairing
from tests.bench.conftest import Cost
from tests.bench.pairing import ENOUGH, MOST, Run, run_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.pairing import Pairs

TRIALS = 200


class Machine:
    """Runs take their time, or longer: the disk by chance, all of it while the machine is slow."""

    def __init__(self, chance: random.Random, *, slow: float, busy: float) -> None:
        self.chance, self.slow, self.busy = chance, slow, busy
        self.factor = 1.0

    def run(self, seconds: float) -> Callable[[int], Cost]:
        def once(_: int) -> Cost:
            others = 1.5 if self.chance.random() < self.busy else 0.1
            disk = 1 + min(self.chance.expovariate(8), 1)  # an eighth more, on an average
            wall = seconds * self.factor * disk * (1 + others / 2)
            return Cost(cpu=seconds, wall=wall, memory=1, others=others)

        return once

    def pace(self) -> float:
        """The machine changes between runs, and the fixed piece of work tells it."""
        if self.chance.random() < 0.2:
            self.factor = 1.6 if self.chance.random() < self.slow else 1.0
        return 0.03 * self.factor


def bench(monkeypatch: pytest.MonkeyPatch, seed: int, ratio: float, **machine: float) -> Pairs:
    made = Machine(random.Random(seed), **machine)  # noqa: S311 - the same in every run
    monkeypatch.setattr(pairing, "_pace", made.pace)
    return run_pairs(made.run(ratio), made.run(1.0), others=0.5)


@pytest.mark.parametrize(("ratio", "passes"), [(0.8, True), (1.05, True), (1.3, False), (1.5, False)])
def test_a_limit_of_1_15_is_told_from_a_program_that_does_not_keep_it(
    ratio: float, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the runs in which enough pairs counted, all but one in fifty say what is so."""
    said = []
    for seed in range(TRIALS):
        pairs = bench(monkeypatch, seed, ratio, slow=0.2, busy=0.1)
        if pairs.is_enough:
            said.append(pairs.wall[0] / pairs.wall[1] <= 1.15)
    assert len(said) > TRIALS * 0.8
    assert said.count(passes) >= len(said) * 0.98


def test_a_single_ratio_would_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the same machine one pair says of a program that takes as long, one time in seven: too long."""
    firsts = [bench(monkeypatch, seed, 1.0, slow=0.2, busy=0.1).every[0] for seed in range(TRIALS)]
    wrong = sum(ours.cost.wall / theirs.cost.wall > 1.15 for ours, theirs in firsts)
    assert wrong > TRIALS / 7


def test_a_machine_that_is_never_free_gives_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = bench(monkeypatch, 1, 1.0, slow=0.0, busy=1.0)
    assert (len(pairs.every), len(pairs.quiet), pairs.is_enough) == (MOST, 0, False)


def test_no_more_is_run_than_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = bench(monkeypatch, 1, 1.0, slow=0.0, busy=0.0)
    assert (len(pairs.every), pairs.is_enough) == (ENOUGH, True)


def test_the_order_changes_from_pair_to_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first of two leaves behind, in memory or on the disk, is not always the same one's luck."""
    order: list[str] = []

    def noting(name: str) -> Callable[[int], Cost]:
        def run(number: int) -> Cost:
            order.append(f"{name}{number}")
            return Cost(cpu=1, wall=1, memory=1, others=0)

        return run

    monkeypatch.setattr(pairing, "_pace", lambda: 1.0)
    run_pairs(noting("ours"), noting("theirs"), others=0.5)
    assert order[:4] == ["ours0", "theirs0", "theirs1", "ours1"]


def test_each_run_finds_memory_that_was_used_a_moment_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to use what a host has taken back pays for it, and that would be either side by chance."""
    seen: list[object] = []

    def run(number: int) -> Cost:
        seen.append(number)
        return Cost(cpu=1, wall=1, memory=1, others=0)

    monkeypatch.setattr(pairing, "_pace", lambda: 1.0)
    monkeypatch.setattr(pairing, "_warm", lambda size: seen.append(f"{size} bytes"))
    run_pairs(run, run, others=0.5, memory=4096)
    assert seen[:4] == ["4096 bytes", 0, "4096 bytes", 0]
    monkeypatch.undo()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): forget the most that was ever resident
    before = resident("VmHWM")
    pairing._warm(128 << 20)
    assert resident("VmHWM") - before >= 100 << 10
    assert resident("VmRSS") - before <= 28 << 10


def resident(what: str) -> int:
    """KiB of this process's memory: ``VmRSS`` now, or ``VmHWM``, the most since it was forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def test_a_pair_on_a_slow_machine_does_not_count() -> None:
    pairs = pairing.Pairs(0.5)
    quick, slow = (Run(Cost(cpu=1, wall=1, memory=1, others=0), pace) for pace in (0.030, 0.036))
    pairs.every = [(quick, quick), (quick, slow), (slow, quick)]
    assert pairs.quiet == [(quick, quick)]
    assert str(pairs).count("does not count") == 2
