"""The memory of patches at a terabyte: whole runs of the program, on files that are mostly holes.

They lie in memory (tmpfs), where reading a hole takes no memory and little time.  A terabyte on either side
is read and compared to its end.  SHA-256 skips most of it (``sampled_digests``), since that alone would
take a quarter of an hour; a size at which both were done shows that it makes no difference.  Another one
tells what cutting and looking up takes besides, where bytes moved: of a terabyte, that is half an hour.
The table of chunks has room for all of them from the start, though holes have one and the same (that it
does not grow, and what each of a million parts takes, see ``tests/unit/node/patching/test_memory.py``).

Applied, a terabyte is described to its node to the last block; what a file's bytes take while they are made
and hashed is seen with a shorter one, on XFS, where ranges are shared.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.sign import sign_bundle
from appliance.trust.root import root_bytes
from tests.bench import sampled_digests
from tests.bench.sampled_digests import SampledDigest
from tests.bench.sparse import sparse_file, write_sparse
from tests.loop_disk import mounted
from tests.unit.bundle.patch.conftest import root_with_patches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from appliance.trust.root import Root
    from tests.conftest import Holders

pytestmark = pytest.mark.bench

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "payload/model/model.bin"
GIB = 1 << 30
#: From 8 GiB on chunks have 1 MiB: up to that they are shorter the smaller the file, and so is what the
#: cutter holds.
SHORT, LONG = 8 * GIB, 64 * GIB
#: 10**12 bytes in whole slices.
TERABYTE = 932 * GIB
CHANGED = 64 << 20


@dataclass(frozen=True)
class Run:
    """One patch that is built: bytes of the old model, and by how many the new one is shorter.

    Where it is, what is the same is looked for in all of the base, which is cut; where not, only in gaps.
    """

    size: int
    shorter: int = 0
    is_sampled: bool = False

    def __str__(self) -> str:
        how = "cut and looked up" if self.shorter else "compared in its place"
        return f"{self.size >> 30} GiB, {how}, {'sampled' if self.is_sampled else 'SHA-256'}"


LONG_HASHED, LONG_SAMPLED = Run(LONG, 4 << 20), Run(LONG, 4 << 20, is_sampled=True)
LONG_IN_PLACE, WHOLE = Run(LONG, is_sampled=True), Run(TERABYTE, is_sampled=True)
RUNS = (Run(SHORT, 4 << 20), LONG_HASHED, LONG_SAMPLED, LONG_IN_PLACE, WHOLE)
PROMISED = 256e6
#: Between two runs of the same, as the looks at their memory fall.
CHANCE = 16e6


@pytest.fixture(scope="module")
def root(holders: Holders) -> Root:
    """Of alice and bob; carol and mallory sign patches."""
    return root_with_patches(holders)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="patch-memory-") as folder:
        yield Path(folder)


@pytest.fixture
def xfs(tmp_path: Path) -> Iterator[Path]:
    """XFS, in a sparse file: room for two models of a terabyte that are one hole each."""
    with mounted("xfs", tmp_path, 3 * TERABYTE, "-l", "size=64m") as place:
        yield place


def pair(folder: Path, holders: Holders, root: Root, run: Run) -> list[str]:
    """Two bundles of a model, which differ in the last 64 MiB.

    Every thousandth byte there is another, so that they are packed against what was there.
    """
    made = []
    end = bytearray(random.Random(1).randbytes(CHANGED))  # noqa: S311 - the same bytes each time
    for number, size in ((1, run.size), (2, run.size - run.shorter)):
        # Of these places a sampled digest sees some: 8 is what 65,536 and 1,000 have in common.
        end[number * 8 :: 1000] = bytes(len(end[number * 8 :: 1000]))
        out = folder / str(number)
        out.mkdir(parents=True)
        make = SampledDigest if run.is_sampled else hashlib.sha256
        file = sparse_file(MODEL, size, bytes(end), make)
        write_sparse(out, holders, {"model": [file]}, sequence=number, ends={MODEL: bytes(end)}, root=root)
        made.append(str(out))
    return made


def applied(patch: Path, old: Path, holders: Holders, root: Root, node: Path, *send: str) -> dict[str, int]:
    """What a station and a node hold while the patch is brought to a node that has the old bundle."""
    for name in ("carol", "mallory"):
        sign_bundle(patch, holders.key(name), role="patch")
    base = hashlib.sha256((old / "trust/SHA256SUMS").read_bytes()).hexdigest()
    copy = node / base
    shutil.copytree(old, copy, ignore=shutil.ignore_patterns("payload"))
    model = copy / MODEL
    model.parent.mkdir(parents=True)
    slices = sorted((old / MODEL).parent.iterdir())
    with model.open("wb") as file:
        file.truncate(sum(path.stat().st_size for path in slices))
        file.seek(-CHANGED, os.SEEK_END)
        with slices[-1].open("rb") as last:
            last.seek(-CHANGED, os.SEEK_END)
            file.write(last.read())
    trusted = node / "root.json"
    trusted.write_bytes(root_bytes(root))
    command = [sys.executable, "-m", "tests.bench.apply_patch", patch, trusted, base, node, *send]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    peaks: dict[str, int] = json.loads(done.stdout)
    how = "applied" if send else "begun to be applied"
    print(f"  {how}: {peaks['station'] / 1e6:.0f} MB at the station, {peaks['node'] / 1e6:.0f} at the node")
    return peaks


def test_a_terabyte_is_built_and_applied_within_the_promise(  # noqa: PLR0917 - the world it needs
    holders: Holders,
    root: Root,
    program: str,
    measure_memory: Callable[[Sequence[str]], int],
    memory: Path,
    xfs: Path,
) -> None:
    peaks, sides = {}, {}
    for run in RUNS:
        old, new = pair(memory / "bundles", holders, root, run)
        command = [sys.executable, str(Path(sampled_digests.__file__))] if run.is_sampled else [program]
        patch = memory / "patch"
        words = ["patch", "build", "--from", old, "--to", new, "--out", str(patch)]
        peaks[run] = measure_memory([*command, *words])
        recipe = (patch / "payload/patch/recipe").read_bytes()
        assert recipe.count(b"\ndelta 16777216 ") >= CHANGED // (16 << 20) - 1, "frames that look back"
        print(f"\n{run}: built with {peaks[run] / 1e6:.0f} MB at the peak")
        if run.size in {SHORT, TERABYTE}:
            sides["begun", run.size] = applied(patch, Path(old), holders, root, xfs / f"begun-{run.size}")
        if run.size == SHORT:
            sides["done", run.size] = applied(patch, Path(old), holders, root, xfs / "done", "send")
        for folder in ("bundles", "patch"):
            shutil.rmtree(memory / folder)
    assert abs(peaks[LONG_SAMPLED] - peaks[LONG_HASHED]) < CHANCE
    cutting = max(0, peaks[LONG_SAMPLED] - peaks[LONG_IN_PLACE])
    assert peaks[WHOLE] + cutting < PROMISED
    for side in ("station", "node"):
        sending = sides["done", SHORT][side] - sides["begun", SHORT][side]
        assert sides["begun", TERABYTE][side] + sending < PROMISED
