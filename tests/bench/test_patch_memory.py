"""The memory of ``patch build``: it does not grow with bytes, but for the table of chunks.

A terabyte is not read here: that is an hour of hashing.  Instead, two sizes are, of sparse files, and the
table is filled with as many chunks as a terabyte has.  What is held besides is a chunk, two segments of
16 MiB and what zstd needs for them, and of each file its record; the block index has 8 MiB for a terabyte.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import SLICE_SIZE
from tests.bench.sparse import sparse_file, write_sparse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import Holders

pytestmark = pytest.mark.bench

GIB = 1 << 30
#: From 8 GiB on chunks have 1 MiB: up to that they are shorter the smaller the file, and so is what the
#: cutter holds (6, 11 and 20 MiB for chunks of 256 KiB, 512 KiB and 1 MiB).
SIZES = (2 * GIB, 4 * GIB)
CUTTER = 10 << 20
PROMISED = 256e6
#: What a terabyte needs besides: its block index, old and new, as read and as packed.
INDEX = 4 * (8 << 20)
TERABYTE = 10**12
#: Fills the table as the chunks of so many bytes do, and prints how many bytes that took.
FILL = """
import mmap, random, sys
from pathlib import Path
from appliance.bundle.patch.chunks import Places, chunk_count, mean_size
source, size = random.Random(1), int(sys.argv[1])
held = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
before = held()
places = Places(chunk_count(size, 1, mean_size(size)))
for number in range(size // mean_size(size)):
    places.add(source.getrandbits(63), number << 20)
print(held() - before)
"""


def pair(folder: Path, holders: Holders, size: int) -> list[str]:
    """Two bundles of a model of so many bytes, which differ in the first 64 MiB."""
    made = []
    for number in (1, 2):
        start = random.Random(number).randbytes(64 << 20)  # noqa: S311 - the same bytes each time
        path = "payload/model/model.bin"
        out = folder / str(number)
        out.mkdir(parents=True)
        files = {"model": [sparse_file(path, size, start)]}
        write_sparse(out, holders, files, sequence=number, starts={path: start})
        made.append(str(out))
    return made


def test_memory_does_not_grow_with_the_bytes(
    holders: Holders,
    program: str,
    measure_memory: Callable[[Sequence[str]], int],
    tmp_path: Path,
) -> None:
    peaks = []
    for size in SIZES:
        old, new = pair(tmp_path / str(size), holders, size)
        out = str(tmp_path / f"patch-{size}")
        peaks.append(measure_memory([program, "patch", "build", "--from", old, "--to", new, "--out", out]))
        shutil.rmtree(tmp_path / str(size))
        print(f"\n{size >> 30} GiB in slices of {SLICE_SIZE >> 30}: {peaks[-1] / 1e6:.0f} MB at the peak")
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(TERABYTE)], capture_output=True, text=True, check=True
    )
    table = int(done.stdout)
    print(f"table of a terabyte: {table / 1e6:.0f} MB")
    assert table > TERABYTE // (1 << 20) * 16, "a key and a place of each chunk"
    assert peaks[1] < peaks[0] + CUTTER
    assert peaks[1] + CUTTER + table + INDEX < PROMISED
