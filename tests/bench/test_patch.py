"""Patches against what people make patches with: bytes that travel, and seconds that making them takes.

All get the same pair of trees: two bundles, whole, with their manifests and lists, which ours makes too.
Compared is what they are made of.  What our patch has besides, since it is a signed bundle itself (its own
manifest, list, block index and review page), is some ten kilobytes, and told apart.  Each tool is run once
in the order of the table, with the old state already known to it where it keeps one, and with both trees in
the page cache: borg has the kernel forget what it read, at the cost of whoever comes next.

The tool with the fewest bytes says what is few, and by its time ours is to be judged; that of the quickest
is shown too.  Processor time says more than wall time where the machine is busy; how much of it others used
stands beside.  Bytes are asserted, seconds are told.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.patches import (
    DIFFERS,
    Case,
    Differ,
    as_bundle,
    fine_tune,
    packages,
    tokens,
    wheels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.conftest import Cost

pytestmark = pytest.mark.bench

PEERS = Path(__file__).resolve().parents[2] / ".venv" / "peers" / "bin"
MEGABYTES = 512
#: Of a model of which next to nothing changes, the less it has the fewer bytes the others make.
SMALL_MEGABYTES = 64
#: At most so much more than the best of the others.
BYTES = 1.02


def download(requirement: str, folder: Path) -> None:
    where = ["--no-deps", "--only-binary=:all:", "--python-version", "3.13", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *where, requirement], check=True)


CASES: dict[str, Callable[[Path], Case]] = {
    "tokenizer": lambda folder: tokens(folder, MEGABYTES),
    "small tokenizer": lambda folder: tokens(folder, SMALL_MEGABYTES),
    "fine-tune": lambda folder: fine_tune(folder, MEGABYTES),
    "wheel": lambda folder: wheels(folder, download, "numpy==2.3.4", "numpy==2.3.5"),
    "deb": lambda folder: packages(folder, "openssl"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Two bundles, and which files of them belong together."""
    made = CASES[request.param](tmp_path / "case")
    if not made.pairs:
        made.pairs.update((path.name, path.name) for path in sorted(made.new.iterdir()))
    bundles = Case(made.name, tmp_path / "bundle-1", tmp_path / "bundle-2", {})
    as_bundle(made.old, bundles.old, 1)
    as_bundle(made.new, bundles.new, 2)
    for path in sorted(bundles.new.rglob("*")):
        if path.is_file():
            inside = path.relative_to(bundles.new)
            old = inside.with_name(made.pairs.get(path.name, path.name))
            bundles.pairs[str(inside)] = str(old) if (bundles.old / old).is_file() else ""
    yield bundles
    for folder in ("case", "bundle-1", "bundle-2"):
        shutil.rmtree(tmp_path / folder)


def test_bytes_and_seconds(
    case: Case, program: str, measure: Callable[[Sequence[str]], Cost], tmp_path: Path
) -> None:
    """At most the bytes of the tool with the fewest, and two per cent."""
    rows, theirs = [], {}
    new = sum(path.stat().st_size for path in case.new.rglob("*") if path.is_file())
    for differ in (each for each in DIFFERS if new <= each.most):
        size, cost = run_differ(differ, case, measure, tmp_path / differ.name.replace(" ", "-"))
        theirs[differ.name] = size, cost.cpu
        rows.append([differ.name, f"{size:,}", *shown(cost)])
    out = tmp_path / "patch"
    read(case)
    command = [program, "patch", "build", "--from", str(case.old)]
    cost = measure([*command, "--to", str(case.new), "--out", str(out), "--json"])
    payload = sum(path.stat().st_size for path in (out / "payload").rglob("*") if path.is_file())
    whole = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    rows.append(["appliance, payload", f"{payload:,}", *shown(cost)])
    rows.append(["appliance, whole bundle", f"{whole:,}"])
    print(f"\n{case.name}, {new:,} bytes")
    print("\n".join(f"  {row[0]:26}" + "  ".join(f"{each:>12}" for each in row[1:]) for row in rows))
    best = min(theirs, key=lambda name: theirs[name][0])
    quickest = min(theirs, key=lambda name: theirs[name][1])
    size, seconds = theirs[best]
    print(f"  bytes: {payload / size - 1:+.1%} of {best}; CPU {cost.cpu / seconds:.2f} of it, ", end="")
    print(f"{cost.cpu / theirs[quickest][1]:.1f} of the quickest, {quickest}")
    assert payload <= BYTES * size


def read(case: Case) -> None:
    """Have both trees in the page cache."""
    for path in (*case.old.rglob("*"), *case.new.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 20):
                    pass


def shown(cost: Cost) -> list[str]:
    return [
        f"{cost.cpu:.2f} s CPU",
        f"{cost.wall:.2f} s",
        f"{cost.memory / 1e6:.0f} MB",
        f"others {cost.others:.0%}",
    ]


def run_differ(
    differ: Differ, case: Case, measure: Callable[[Sequence[str]], Cost], folder: Path
) -> tuple[int, Cost]:
    """Bytes that travel, and what making them cost."""
    (folder / "medium").mkdir(parents=True)
    (folder / "work").mkdir()
    case.write_pairs(folder / "pairs")
    values = {
        "OLD": case.old,
        "NEW": case.new,
        "M": folder / "medium",
        "W": folder / "work",
        "PAIRS": folder / "pairs",
        "HOME": folder,
        "PEERS": PEERS,
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    shell = ["env", *(f"{name}={value}" for name, value in values.items()), "sh", "-euc"]
    subprocess.run([*shell, differ.prepare], check=True, capture_output=True)
    read(case)
    cost = measure([*shell, differ.make])
    size = sum(path.stat().st_size for path in (folder / "medium").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return size, cost
