"""build from a warm store against ``cp``, ``sync`` and ``openssl dgst -sha256`` of the same files.

All three, because ``build`` has all three done when it ends: the bytes are copied, on the disk, and
hashed.  The store was filled as a fetch fills it, so that it knows slices and blocks.  Runs are
interleaved, on the same disk, and the best of each side counts (``tests.bench.pairing``).  Ours uses
every core and theirs one at a time, so only pairs count during which others used little of the machine;
the kernel's own writing to the disk is among the others.  The disk must not share blocks, or ``cp`` costs
nothing.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.bench.pairing import run_pairs
from tests.bench.station import make_station

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.bench.conftest import Cost
    from tests.bench.pairing import Pairs
    from tests.bench.station import Station

pytestmark = pytest.mark.bench

QUIET = 0.50  # of a core, used by others; the kernel's writing takes up to a third
#: One long file in four slices; and many short ones.
LOADS = {
    "4 GiB in one file": {"long": 4 << 30, "short": 0, "short_size": 0},
    "10,000 files of 64 KiB": {"long": 0, "short": 10_000, "short_size": 64 << 10},
}
COPY = """
cp -r "$1" "$2" && sync --file-system "$2" &&
find "$2" -type f -print0 | xargs -0 openssl dgst -sha256"""


@pytest.fixture(scope="module", params=LOADS.values(), ids=LOADS)
def station(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("station")
    yield make_station(folder, **request.param)
    shutil.rmtree(folder)  # gigabytes, and pytest keeps folders


@pytest.fixture(scope="module")
def pairs(
    station: Station,
    program: str,
    measure: Callable[[Sequence[str]], Cost],
) -> Pairs:
    """Interleaved runs: ours, and copying and hashing with stock tools."""
    few = len(station.lock.components["data"].artefacts) == 1

    def alone(command: list[str], made: Path) -> Cost:
        os.sync()
        cost = measure(command)
        if few:  # else ext4 looks, for each file it makes, at those that were removed a short while ago
            shutil.rmtree(made)
        return cost

    def build(number: int) -> Cost:
        bundle = station.folder / f"bundle-{number}"
        return alone(station.build(program, bundle), bundle)

    def stock(number: int) -> Cost:
        copy = station.folder / f"copy-{number}"
        return alone(["sh", "-c", COPY, "sh", str(station.objects), str(copy)], copy)

    stock(-1)  # fills the page cache
    written = sum(artefact.size for artefact in station.lock.components["data"].artefacts)
    return run_pairs(build, stock, others=QUIET, memory=2 * written)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a promise for two cores")
def test_build_costs_hardly_more_than_copying_and_hashing_once(
    pairs: Pairs, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    print(f"\nbuild, {name}:\n{pairs}")
    if not pairs.is_enough:
        pytest.skip(f"not measured: in {len(pairs.quiet)} of {len(pairs.every)} pairs the machine was free")
    print(f"{name}: {pairs.summary('build', 'cp + sync + openssl', 1.15)}")
    assert pairs.ratio <= 1.15


def test_memory_stays_below_128_mb(pairs: Pairs, request: pytest.FixtureRequest) -> None:
    print(f"\n{request.node.callspec.id}: build takes {pairs.memory / 1e6:.0f} MB at most (below 128)")
    assert pairs.memory < 128e6


def test_memory_stays_below_128_mb_for_200_000_files(
    tmp_path_factory: pytest.TempPathFactory,
    program: str,
    measure_memory: Callable[[Sequence[str]], int],
) -> None:
    """Of all processes, without parity; a thousand bytes in each file, as what counts is their number."""
    folder = tmp_path_factory.mktemp("many")
    station = make_station(folder, long=0, short=200_000, short_size=1000)
    peak = measure_memory(station.build(program, folder / "bundle"))
    shutil.rmtree(folder)
    print(f"\nbuild of 200,000 files takes {peak / 1e6:.0f} MB at most (below 128)")
    assert peak < 128e6
