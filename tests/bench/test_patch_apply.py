"""Bringing a patch onto a node whose file system can share blocks, against the least that has to be done.

That is: to write the bytes that changed, and to read the base once (to hash it, as nothing is believed
unread).  Ours makes the new model beside the old one, of ranges of that and of new bytes, and hashes what
came of it.  Station and node are this machine, without SSH between them; what a switch does is not in it.
"""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.bench.conftest import Cost
from tests.bench.cost_of import busy_seconds
from tests.bench.pairing import run_pairs
from tests.bench.patches import weights
from tests.loop_disk import mounted
from tests.unit.node.patching.conftest import LONG, Bundles, NodeHere, make_bundles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Holders

pytestmark = pytest.mark.bench

MEGABYTES = 512
CHANGED = frozenset({5, 21, 37, 53})
LIMIT = 1.2
QUIET = 0.5  # of a core, used by others
#: What a patch leaves alone in a model is shared; the rest and the documents take no more than this.
ROOM = (MEGABYTES << 20) // 64 * len(CHANGED) + (4 << 20)
LEAST = """
dd if="$1" of="$2" bs=1M count="$3" status=none && sync --file-system "$2" && openssl dgst -sha256 "$1"
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """XFS, in a sparse file."""
    with mounted("xfs", tmp_path_factory.mktemp("apply"), MEGABYTES << 23) as place:
        yield place


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> Bundles:
    """A model, and a fine-tune of it: four tensors of 64."""
    folder = tmp_path_factory.mktemp("bundles")
    old, new = folder / "old.bin", folder / "new.bin"
    weights(old, MEGABYTES, seed=1)
    weights(new, MEGABYTES, seed=1, changed=CHANGED)
    (folder / "station").mkdir()
    return make_bundles(folder / "station", holders, (old.read_bytes(), new.read_bytes()), parity=0)


def test_a_patch_costs_what_is_new_and_one_read(
    disk: Path, bundles: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A node's python3 is its system's; a shim of who keeps several takes ten times as long to start one.
    monkeypatch.setenv("PATH", f"/usr/bin:/bin:{os.environ['PATH']}")
    node = NodeHere(disk, bundles)
    node.install(bundles.old)
    model, copy = (node.copy(bundle) / LONG for bundle in (bundles.old, bundles.new))
    os.sync()
    free = os.statvfs(disk)

    def apply(_: int) -> Cost:
        made = node.copy(bundles.new)
        subprocess.run(["rm", "-rf", made, f"{made}.complete"], check=True)
        return cost(model, node.patch)

    def least(_: int) -> Cost:
        words = [str(model), str(disk / "written"), str(MEGABYTES // 64 * len(CHANGED))]
        command = ["sh", "-euc", LEAST, "sh", *words]
        return cost(model, lambda: subprocess.run(command, check=True, capture_output=True))

    apply(0)
    os.sync()
    taken = (free.f_bavail - os.statvfs(disk).f_bavail) * free.f_frsize
    assert copy.read_bytes() == (bundles.new.folder / LONG).read_bytes()
    print(f"\nof a model of {MEGABYTES} MiB the new copy takes {taken / 1e6:.1f} MB")
    assert taken <= ROOM
    pairs = run_pairs(apply, least, others=QUIET)
    print(f"{pairs}\nCPU at best: {pairs.cpu[0]:.2f} s, theirs {pairs.cpu[1]:.2f} s")
    if not pairs.is_enough:
        pytest.skip(f"not judged: in {len(pairs.quiet)} of {len(pairs.every)} pairs the machine was free")
    print(pairs.summary("patch", "writing what changed, reading the base", LIMIT))
    assert pairs.ratio <= LIMIT


def cost(base: Path, run: Callable[[], object]) -> Cost:
    """What it costs, of this process and those that it starts, with the base read from its disk."""
    with base.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    times, begun, busy = os.times(), time.perf_counter(), busy_seconds()
    run()
    wall = time.perf_counter() - begun
    cpu = sum(after - before for before, after in zip(times[:4], os.times()[:4], strict=True))
    return Cost(cpu, wall, 0, (busy_seconds() - busy - cpu) / wall)
