"""How long the second installation takes beside the first, in the same run on the same machine.

The first brings the demonstration's bundle onto a node that holds nothing of ours; the second finds all
as it should be, and proves that again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Installer, NewInstaller, NewLab

pytestmark = [pytest.mark.bench, pytest.mark.node, pytest.mark.archive]

MOST = 0.30


def test_the_second_run_takes_at_most_three_tenths_of_the_first(
    new_lab: NewLab, new_installer: NewInstaller
) -> None:
    with new_lab() as lab:
        installer = new_installer(lab)
        first, second = seconds_of(installer, changes=True), seconds_of(installer, changes=False)
    print(f"\ninstall {first:.1f} s, again {second:.1f} s: {second / first:.2f} (at most {MOST:.2f})")
    assert second / first <= MOST


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
