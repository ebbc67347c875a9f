"""How long the second installation takes beside the first, in the same run on the same machine.

The first brings a bundle onto a node that holds nothing of ours; the second finds all as it should be, and
proves that again.  What the second costs is the same whatever the bundle's size, but for hashing it; the
first has to copy it.  So there are two measurements: of the demonstration, which has no weights to speak
of, and of the same with 4 GiB of them, which is still less than any model a GPU node serves.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Installer, NewBundle, NewInstaller, NewLab

pytestmark = [pytest.mark.bench, pytest.mark.node, pytest.mark.archive]

DEMO = Path(__file__).resolve().parents[2] / "bundles/demo.yaml"
WEIGHTS = 4 << 30
COMPONENT = """components:
  weights:
    kind: files
    files: [{{path: weights.bin, sha256: {digest}, licence: CC0-1.0}}]
"""
#: What is promised of a bundle with weights, and what the demonstration must not fall behind.
MOST, MOST_WITHOUT_WEIGHTS = 0.30, 0.50


@pytest.fixture
def with_weights(tmp_path: Path, new_bundle: NewBundle) -> Iterator[Path]:
    """The demonstration with 4 GiB of weights beside it, from a store of its own that goes afterwards."""
    weights, definition = tmp_path / "weights.bin", tmp_path / "weights.yaml"
    with weights.open("wb") as file:
        file.truncate(WEIGHTS)
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    component = COMPONENT.format(digest=digest)
    definition.write_text(DEMO.read_text().replace("components:\n", component, 1))
    yield new_bundle(definition, tmp_path, "--store", str(tmp_path / "store"))
    shutil.rmtree(tmp_path)


def test_of_a_bundle_with_weights_the_second_run_takes_at_most_three_tenths(
    with_weights: Path, new_lab: NewLab, new_installer: NewInstaller
) -> None:
    with new_lab() as lab:
        assert ratio("with 4 GiB of weights", new_installer(lab, with_weights)) <= MOST


def test_of_the_demonstration_it_takes_at_most_half(new_lab: NewLab, new_installer: NewInstaller) -> None:
    with new_lab() as lab:
        assert ratio("demonstration", new_installer(lab)) <= MOST_WITHOUT_WEIGHTS


def ratio(name: str, installer: Installer) -> float:
    """Install twice; the second wall time by the first."""
    first, second = seconds_of(installer, changes=True), seconds_of(installer, changes=False)
    print(f"\n{name}: install {first:.1f} s, again {second:.1f} s: {second / first:.2f}")
    return second / first


def seconds_of(installer: Installer, *, changes: bool) -> float:
    """Wall time of an installation, which must succeed, change something or not, and prove everything."""
    started = time.perf_counter()
    code, result, told = installer()
    seconds = time.perf_counter() - started
    assert code == 0, told
    assert bool(result["changes"]) is changes, result["changes"]
    (node,) = result["nodes"].values()
    assert node["qualify"]["verdict"] == "passed"
    return seconds
