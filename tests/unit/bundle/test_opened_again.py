"""Volumes that were verified a moment ago: which of them was pulled, and what is not called pulled."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.opening import opened_again
from appliance.errors import BundleUntrusted, MediumFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def two(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(bundle, 2)


@pytest.mark.parametrize("left", [False, True], ids=["no folder", "an empty folder"])
def test_the_medium_that_is_gone_is_named_and_the_other_one_is_not(left: bool, two: list[Path]) -> None:
    shutil.rmtree(two[1])
    if left:
        two[1].mkdir()
    with pytest.raises(MediumFailed) as raised, opened_again(two):
        pass
    assert str(two[1]) in raised.value.message
    assert str(two[0]) not in raised.value.message


def test_a_medium_that_was_changed_is_not_called_pulled(two: list[Path]) -> None:
    """It is there and can be read; whoever changed it may not pass for a loose plug."""
    (two[1] / "trust/SHA256SUMS").write_bytes(b"0" * 64 + b"  payload/x\n")
    with pytest.raises(BundleUntrusted) as raised, opened_again(two):
        pass
    assert raised.value.exit_code == 4
