"""Labels that were lost, damaged or exchanged: a volume is what its files are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.label import LABEL_PATH
from appliance.bundle.media.layout import Layout
from appliance.bundle.parity import places
from appliance.bundle.parity.places import open_places
from appliance.bundle.parity.whole import make_recovery_volume
from appliance.progress import Silent
from tests.unit.bundle.parity.conftest import same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired

    Repair = Callable[..., Repaired]


@pytest.fixture
def three(sick: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(sick, 5, 7)


def exchange(one: Path, other: Path) -> None:
    kept = (one / LABEL_PATH).read_bytes()
    (one / LABEL_PATH).write_bytes((other / LABEL_PATH).read_bytes())
    (other / LABEL_PATH).write_bytes(kept)


def test_exchanged_labels_are_put_back(three: list[Path], tmp_path: Path, repair: Repair) -> None:
    kept = [shutil.copytree(each, tmp_path / "kept" / str(number)) for number, each in enumerate(three)]
    exchange(three[0], three[1])
    result = repair(*three)
    assert {each.folder / each.path for each in result.mended} == {each / LABEL_PATH for each in three[:2]}
    assert all(map(same, three, kept))


def test_two_labels_that_say_the_same_are_told_apart(
    three: list[Path], tmp_path: Path, repair: Repair
) -> None:
    kept = shutil.copytree(three[1], tmp_path / "kept")
    shutil.copy(three[0] / LABEL_PATH, three[1] / LABEL_PATH)
    result = repair(*three)
    assert result.absent == ()
    assert same(three[1], kept)


def test_exchanged_labels_do_not_hinder_a_recovery_volume(three: list[Path], tmp_path: Path) -> None:
    exchange(three[0], three[1])
    (tmp_path / "recovery").mkdir()
    made = make_recovery_volume(
        three, tmp_path / "recovery", root=None, work=tmp_path / "work", progress=Silent()
    )
    assert made.volumes == 3


def test_a_volume_that_lost_its_files_is_what_its_label_says(
    three: list[Path], tmp_path: Path, repair: Repair
) -> None:
    kept = shutil.copytree(three[2], tmp_path / "kept")
    shutil.rmtree(three[2] / "parity")
    repair(*three)
    assert same(three[2], kept)


def test_where_files_of_two_shares_are_as_many_the_label_decides(three: list[Path]) -> None:
    with open_places(three[:2]) as opened:
        _, second = opened.volumes
        assert second.label
        layout = Layout(second.label.volumes)
        here = [layout.shares[0].first, layout.shares[1].first]
        for files in (here, here[::-1]):
            assert places._number(second, layout, files) == 2
        assert places._number(second, layout, [*here, layout.shares[0].last]) == 1
