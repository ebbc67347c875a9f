"""verify against one-core ``openssl dgst -sha256`` over the same bytes, in the same run; and its memory.

Runs are paired and interleaved, one uncounted pair first to fill the page cache.  CPU is compared by
medians.  Wall time is a promise for two cores, so only pairs count during which nothing else used
more than a tenth of one; without such a pair there is no result, and the test says so.

Memory counts every process of the program: the sum of their proportional shares (PSS, proc(5)), at its
peak, looked at every 20 ms.
"""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING

import pytest

from tests.bench.sparse import sparse_file, write_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.conftest import Cost
    from tests.conftest import Holders

pytestmark = pytest.mark.bench

LARGE = 8 << 30
SMALL, SMALL_SIZE = 200_000, 40 << 10
TERABYTE = 1 << 40
PAIRS = 5
MOST_PAIRS = 12
QUIET = 0.10  # of a core, used by others
MOST_MEMORY = 128e6


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Path:
    """One file of 8 GiB, in eight slices."""
    folder = tmp_path_factory.mktemp("large") / "bundle"
    return write_sparse(folder, holders, {"model": [sparse_file("payload/model/zeros.gguf", LARGE)]})


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Path:
    """200,000 files of 36 to 44 KiB, the size of the middle package of a distribution."""
    folder = tmp_path_factory.mktemp("small") / "bundle"
    packages = (
        sparse_file(
            f"payload/system/pool-{number // 1000:03d}/"
            f"library-of-something-{number:06d}_1.2.3-1+deb13u1_amd64.deb",
            SMALL_SIZE - 4096 + number * 2654435761 % 8192,
        )
        for number in range(SMALL)
    )
    model = [sparse_file("payload/model/zeros.gguf", 1 << 20)]
    return write_sparse(folder, holders, {"model": model, "system": packages})


@pytest.fixture(scope="module")
def terabyte(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Path:
    """Four models of 256 GiB, in 1,024 slices."""
    folder = tmp_path_factory.mktemp("terabyte") / "bundle"
    models = [sparse_file(f"payload/model/{name}.gguf", TERABYTE // 4) for name in "abcd"]
    return write_sparse(folder, holders, {"model": models})


def verify_command(program: str, bundle: Path) -> list[str]:
    return [program, "verify", str(bundle), "--trust", str(bundle / "trust/root.1.json")]


def measure_pairs(
    bundle: Path, program: str, measure: Callable[[Sequence[str]], Cost], names: Path
) -> list[tuple[Cost, Cost]]:
    """Interleaved runs: ours, and openssl's over every file of the bundle."""
    files = sorted(str(path) for path in bundle.rglob("*") if path.is_file())
    names.write_text("\n".join(files))
    openssl = ["xargs", "--arg-file", str(names), "openssl", "dgst", "-sha256"]
    verify = verify_command(program, bundle)
    pairs: list[tuple[Cost, Cost]] = []
    measure(openssl)
    measure(verify)
    while len(pairs) < PAIRS or (not quiet(pairs) and len(pairs) < MOST_PAIRS):
        pairs.append((measure(verify), measure(openssl)))
    return pairs


@pytest.fixture(scope="module")
def large_pairs(
    large_bundle: Path,
    program: str,
    measure: Callable[[Sequence[str]], Cost],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[Cost, Cost]]:
    return measure_pairs(large_bundle, program, measure, tmp_path_factory.mktemp("names") / "names")


@pytest.fixture(scope="module")
def small_pairs(
    small_files: Path,
    program: str,
    measure: Callable[[Sequence[str]], Cost],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[tuple[Cost, Cost]]:
    return measure_pairs(small_files, program, measure, tmp_path_factory.mktemp("names") / "names")


def quiet(pairs: list[tuple[Cost, Cost]]) -> list[tuple[Cost, Cost]]:
    """The pairs during which the machine was ours."""
    return [pair for pair in pairs if all(cost.others <= QUIET for cost in pair)]


def cpu_ratio(pairs: list[tuple[Cost, Cost]], most: float) -> float:
    ours, theirs = (statistics.median(pair[side].cpu for pair in pairs) for side in (0, 1))
    print(f"\nverify {ours:.2f} s CPU, openssl {theirs:.2f} s: {ours / theirs:.2f} (at most {most})")
    return ours / theirs


def wall_ratio(pairs: list[tuple[Cost, Cost]], most: float) -> float:
    alone = quiet(pairs)
    if not alone:
        pytest.skip(f"not measured: in none of {len(pairs)} pairs of runs were two cores free")
    ours, theirs = (min(pair[side].wall for pair in alone) for side in (0, 1))
    print(f"\nverify {ours:.2f} s, openssl {theirs:.2f} s: {ours / theirs:.2f} (at most {most})")
    return ours / theirs


two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a promise for two cores")


def test_cpu_of_one_large_file(large_pairs: list[tuple[Cost, Cost]]) -> None:
    assert cpu_ratio(large_pairs, 1.05) <= 1.05


@two_cores
def test_wall_time_of_one_large_file(large_pairs: list[tuple[Cost, Cost]]) -> None:
    assert wall_ratio(large_pairs, 0.55) <= 0.55


def test_cpu_of_200_000_small_files(small_pairs: list[tuple[Cost, Cost]]) -> None:
    assert cpu_ratio(small_pairs, 1.05) <= 1.05


@two_cores
def test_wall_time_of_200_000_small_files(small_pairs: list[tuple[Cost, Cost]]) -> None:
    assert wall_ratio(small_pairs, 0.55) <= 0.55


@pytest.mark.parametrize("kind", ["large_bundle", "small_files"])
def test_memory(
    kind: str, program: str, measure_memory: Callable[[Sequence[str]], int], request: pytest.FixtureRequest
) -> None:
    peak = measure_memory(verify_command(program, request.getfixturevalue(kind)))
    print(f"\nverify, {kind}: {peak / 1e6:.0f} MB at most (below 128)")
    assert peak < MOST_MEMORY


def test_memory_with_a_terabyte_of_slices(
    terabyte: Path, program: str, measure_memory: Callable[[Sequence[str]], int]
) -> None:
    """All that grows with the slices: list, manifest, block index, the set of files.  Not the bytes."""
    peak = measure_memory([program, "inspect", str(terabyte)])
    print(f"\ninspect of 1 TiB: {peak / 1e6:.0f} MB at most (below 128)")
    assert peak < MOST_MEMORY


def test_help_starts_fast(program: str, measure: Callable[[Sequence[str]], Cost]) -> None:
    cpu = statistics.median(measure([program, "--help"]).cpu for _ in range(PAIRS))
    print(f"\nappliance --help: {cpu:.2f} s CPU (at most 0.30)")
    assert cpu <= 0.30
