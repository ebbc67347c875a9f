"""Patches against what people make patches with: bytes that travel, and seconds that making them takes.

Ours are whole bundles.  Compared are the bytes that files are made of; what every bundle has besides
(recipe, manifest, list, block index, bill of materials, review page) is some ten kilobytes, and told apart.
Each tool is run once on the same two folders, in the order of the table, with the old state already known
to it where it keeps one.
"""

from __future__ import annotations

import json
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
MEGABYTES = 64
#: At most so much more than the best of the others; and what the signed documents of a bundle come to.
BYTES = 1.02
DOCUMENTS = 4096


def download(requirement: str, folder: Path) -> None:
    where = ["--no-deps", "--only-binary=:all:", "--python-version", "3.13", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", *where, requirement], check=True)


CASES: dict[str, Callable[[Path], Case]] = {
    "tokenizer": lambda folder: tokens(folder, MEGABYTES),
    "fine-tune": lambda folder: fine_tune(folder, MEGABYTES),
    "wheel": lambda folder: wheels(folder, download, "numpy==2.3.4", "numpy==2.3.5"),
    "deb": lambda folder: packages(folder, "openssl"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    made = CASES[request.param](tmp_path / "case")
    if not made.pairs:
        made.pairs.update((path.name, path.name) for path in sorted(made.new.iterdir()))
    yield made
    shutil.rmtree(tmp_path / "case")


def test_bytes_and_seconds(
    case: Case, program: str, measure: Callable[[Sequence[str]], Cost], tmp_path: Path
) -> None:
    """At most the best tool's bytes and two per cent."""
    rows, sizes = [], {}
    for differ in DIFFERS:
        sizes[differ.name], cost = run_differ(
            differ, case, measure, tmp_path / differ.name.replace(" ", "-")
        )
        rows.append([differ.name, f"{sizes[differ.name]:,}", f"{cost.wall:.2f}", f"{cost.cpu:.2f}"])
    for number, folder in enumerate((case.old, case.new), 1):
        as_bundle(folder, tmp_path / f"bundle-{number}", number)
    out = tmp_path / "patch"
    command = [program, "patch", "build", "--from", str(tmp_path / "bundle-1")]
    cost = measure([*command, "--to", str(tmp_path / "bundle-2"), "--out", str(out), "--json"])
    carried = [path for path in (out / "payload").rglob("*") if path.is_file() and path.name != "recipe"]
    payload = sum(path.stat().st_size for path in carried)
    whole = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    rows.append(["appliance, payload", f"{payload:,}", f"{cost.wall:.2f}", f"{cost.cpu:.2f}"])
    rows.append(["appliance, whole bundle", f"{whole:,}", "", f"peak {cost.memory / 1e6:.0f} MB"])
    for name in ("bundle-1", "bundle-2"):
        shutil.rmtree(tmp_path / name)
    new = sum(path.stat().st_size for path in case.new.iterdir())
    print(
        f"\n{case.name}, {new:,} bytes\n" + "\n".join(f"  {row[0]:26}" + "  ".join(row[1:]) for row in rows)
    )
    print(json.dumps({"case": case.name, "sizes": sizes, "ours": payload, "bundle": whole}))
    assert payload <= BYTES * min(sizes.values()) + DOCUMENTS


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
    cost = measure([*shell, differ.make])
    size = sum(path.stat().st_size for path in (folder / "medium").rglob("*") if path.is_file())
    shutil.rmtree(folder)
    return size, cost
