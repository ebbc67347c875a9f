"""media write against the tools that do the same: cp -r, sync, and reading the copy back with a digest.

Both start from a bundle that is not in memory, write to the same disk, bring everything to it, drop what
is cached of the copy, and read all of it again.  The peer hashes with openssl, the fastest of the stock
tools, and compares nothing; ours compares each file with its signed digest twice.  Runs are paired and
interleaved (``tests.bench.pairing``); only pairs count during which nothing else used more than a fifth
of a core, since ours hashes on a second one.  Without enough of them there is no result, and the test
says so.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.bench.pairing import run_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tests.bench.conftest import Cost
    from tests.bench.pairing import Pairs
    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.bench

BLOCK = 64 << 10
QUIET = 0.20  # of a core, used by others, the kernel's writing among them

PEER = """
set -e
cp -r "$1" "$2"
sync --file-system "$2"
find "$2" -type f | while read -r file; do
    dd of="$file" oflag=nocache conv=notrunc count=0 status=none
done
find "$2" -type f -exec openssl dgst -sha256 {} +
"""


@pytest.fixture(scope="module", params=["large", "small"])
def bundle(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    holders: Holders,
    maker_in: Callable[[Path], BundleMaker],
) -> Iterator[Path]:
    """1 GiB in one file, or 64 MiB in 1,024; no holes, which cp would not copy."""
    folder = tmp_path_factory.mktemp(request.param)
    maker = maker_in(folder)
    count, blocks = (1, 16384) if request.param == "large" else (1024, 1)
    source = random.Random(3)  # noqa: S311 - the same bytes in every run
    files = {f"part-{number:05d}": source.randbytes(BLOCK) * blocks for number in range(count)}
    contents = {
        "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel", "requirements.txt": b"engine\n"}),
        "extras": ("files", files),
        "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"}),
    }
    root = holders.root("alice", "bob")
    yield maker.sign(maker.write("bundle", root, maker.lock(contents)), "alice", "bob")
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pairs(bundle: Path, program: str, measure: Callable[[Sequence[str]], Cost]) -> Pairs:
    """Interleaved runs: ours, and the peer's."""
    place = bundle.with_name("medium")

    def alone(command: list[str], target: Path) -> Cost:
        target.mkdir(parents=True)
        make_cold(bundle)
        os.sync()
        cost = measure([*command, str(target)])
        make_cold(target)
        if not (bundle / "payload/extras/part-00001").exists():  # gigabytes, and few files: see test_build
            shutil.rmtree(target)
        return cost

    return run_pairs(
        lambda number: alone(
            [program, "media", "write", str(bundle), "--size", "64GB"], place / f"ours-{number}"
        ),
        lambda number: alone(["sh", "-c", PEER, "peer", str(bundle)], place / f"theirs-{number}"),
        others=QUIET,
        memory=3 << 30,  # what is read, written and read back of a GiB
    )


def make_cold(folder: Path) -> None:
    """Drop what is cached of a folder's files."""
    for path in folder.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def test_wall_time_is_at_most_a_tenth_above_the_peer(request: pytest.FixtureRequest, pairs: Pairs) -> None:
    print(f"\nmedia write, {request.node.callspec.id}:\n{pairs}")
    if not pairs.is_enough:
        pytest.skip(f"not measured: in {len(pairs.quiet)} of {len(pairs.every)} pairs the machine was free")
    print(f"{request.node.callspec.id}: {pairs.summary('media write', 'cp + sync + re-read', 1.10)}")
    assert pairs.ratio <= 1.10


def test_memory_stays_below_100_mb(pairs: Pairs) -> None:
    print(f"\nmedia write: {pairs.memory / 1e6:.0f} MB at most (below 100)")
    assert pairs.memory < 100e6
