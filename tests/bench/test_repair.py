"""Parity and repair against par2 itself, over the same bytes, in the same run.

The peer is the program that does the computing here too, started by hand with the same options: what
is compared is all that this program does beside it (docs/decisions/0018).  Debian's par2 is the one that
people have.  Both sides are waited for until their bytes are on the disk.  Runs are paired and
interleaved (``tests.bench.pairing``); CPU is what is judged: par2 by hand reads from memory what ours reads
from the medium, which is another thing on each machine.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.manifest import parse_manifest
from appliance.bundle.parity.creating import parity_companion
from appliance.bundle.parity.program import find_par2
from appliance.bundle.parity.sets import covered, divide
from appliance.bundle.writer import write_bundle
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.bench.pairing import run_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.bench.conftest import Cost
    from tests.conftest import BundleMaker, Holders

pytestmark = pytest.mark.bench

PART = 256 << 20
PERCENT = 5
DAMAGED = 0.03
PAIRS = 2
QUIET = 0.50  # of a core, used by others; the kernel's writing takes up to a third
MOST_CPU = 1.50  # of par2's own, for reading, counting and reading back


@pytest.fixture(scope="module")
def bundle(
    tmp_path_factory: pytest.TempPathFactory, holders: Holders, maker_in: Callable[[Path], BundleMaker]
) -> Path:
    """A signed bundle of 1 GiB of noise in four files, which are not cut, with 5 % of parity."""
    maker = maker_in(tmp_path_factory.mktemp("repair"))
    noise = random.Random(3)  # noqa: S311 - the same bytes in every run
    names = ("tiny.gguf", "tiny-2.gguf", "tiny-3.gguf", "tiny-4.gguf")
    weights = {name: b"".join(noise.randbytes(16 << 20) for _ in range(PART >> 24)) for name in names}
    lock = maker.lock({"engine": ("python", {"e": b"e"}), "model": ("tiny-gguf", weights)})
    path = write_bundle(
        maker.folder / "bundle",
        lock,
        maker.store(),
        root=root_bytes(holders.root("alice", "bob")),
        progress=Silent(),
        companions=[parity_companion(PERCENT)],
    )
    return maker.sign(path, "alice", "bob")


def damage(bundle: Path) -> None:
    """Flip some bytes in 3 % of the blocks of the only set, always the same."""
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    (parity,) = divide(tuple(covered(manifest)), PERCENT)
    blocks = [
        (member.path, number * parity.block_size)
        for member in parity.members
        if member.size >= PART
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


def test_repair_beside_par2_alone(
    bundle: Path, tmp_path: Path, program: str, measure: Callable[[Sequence[str]], Cost]
) -> None:
    """What reading everything, counting and reading back cost on top of par2's own work."""
    other = shutil.copytree(bundle, tmp_path / "other")
    trust = str(bundle / "trust/root.1.json")
    repair = [program, "media", "repair", str(bundle), "--trust", trust, "--work", str(bundle.parent)]

    def mine(_: int) -> Cost:
        damage(bundle)
        return measure(repair)

    def theirs(_: int) -> Cost:
        damage(other)
        cost = measure(by_hand(find_par2(), other))
        for backup in (other / "payload/model").glob("*.1"):
            backup.unlink()
        return cost

    pairs = run_pairs(mine, theirs, others=QUIET)
    cpu = pairs.cpu[0] / pairs.cpu[1]
    print(f"\nrepair of 3 %:\n{pairs}")
    print(f"CPU {pairs.cpu[0]:.1f} s, par2 alone {pairs.cpu[1]:.1f} s: {cpu:.2f} (at most {MOST_CPU})")
    print(f"{pairs.memory / 1e6:.0f} MB")
    if pairs.is_enough:
        wall = pairs.wall
        print(f"wall {wall[0]:.1f} s, par2 alone {wall[1]:.1f} s: {wall[0] / wall[1]:.2f} (not judged)")
    assert cpu <= MOST_CPU
    assert pairs.memory <= 1.5e9


def test_repair_beside_debian_s_par2(
    bundle: Path, tmp_path: Path, program: str, measure: Callable[[Sequence[str]], Cost]
) -> None:
    """The par2 that people have: at most as long, in CPU, as it takes."""
    other = shutil.copytree(bundle, tmp_path / "other")
    trust = str(bundle / "trust/root.1.json")
    damage(bundle)
    damage(other)
    ours = measure([program, "media", "repair", str(bundle), "--trust", trust, "--work", str(tmp_path)])
    theirs = measure(by_hand(shutil.which("par2") or "par2", other))
    _, cpu, _ = ratios([(ours, theirs)])
    print(f"\nrepair of 3 %: CPU {cpu} of Debian's par2 (at most 1.00)")
    assert cpu.ratio <= 1.0


def test_creating_parity_beside_par2_alone(
    bundle: Path, tmp_path: Path, measure: Callable[[Sequence[str]], Cost]
) -> None:
    """What writing the packets again costs on top of par2's own work."""
    manifest = parse_manifest((bundle / "manifest.json").read_bytes())
    (parity,) = divide(tuple(covered(manifest)), PERCENT)
    copy = shutil.copytree(bundle, tmp_path / "copy", ignore=lambda *_: ("parity",))
    ours = [sys.executable, "-c", CREATE, str(copy), str(PERCENT)]
    options = f'-s{parity.block_size} -c{parity.recovery} -n1 -u -B"{copy}"'
    paths = " ".join(f'"{member.path}"' for member in parity.members)
    line = f'cd "{copy}" && rm -rf made && mkdir made && "{find_par2()}" create -q {options} made/set.par2'
    pairs = [
        (measure(ours), measure(["sh", "-c", f"{line} {paths} && sync -f made"])) for _ in range(PAIRS + 1)
    ]
    wall, cpu, _ = ratios(pairs[1:])
    print(f"\nparity of 5 %: wall {wall}, CPU {cpu} (at most 1.35)")
    assert cpu.ratio <= 1.35


CREATE = """
import shutil, sys
from pathlib import Path
from appliance.bundle.manifest import parse_manifest
from appliance.bundle.parity.creating import make_parity
from appliance.bundle.parity.sets import covered, divide
from appliance.progress import Silent

folder = Path(sys.argv[1])
shutil.rmtree(folder / "parity", ignore_errors=True)
manifest = parse_manifest((folder / "manifest.json").read_bytes())
make_parity(folder, divide(tuple(covered(manifest)), int(sys.argv[2])), Silent())
"""


@dataclass(frozen=True)
class Compared:
    """Medians of seconds: ours, theirs."""

    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def __str__(self) -> str:
        return f"{self.ours:.1f} s against {self.theirs:.1f} s: {self.ratio:.2f}"


def ratios(pairs: Sequence[tuple[Cost, Cost]]) -> tuple[Compared, Compared, int]:
    """Wall and CPU compared; our peak of memory, par2's among it, in bytes."""
    wall = Compared(*(statistics.median(pair[side].wall for pair in pairs) for side in (0, 1)))
    cpu = Compared(*(statistics.median(pair[side].cpu for pair in pairs) for side in (0, 1)))
    return wall, cpu, max(pair[0].memory for pair in pairs)
