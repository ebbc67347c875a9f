"""What a repair says is still to be done, and what it asks for where it cannot go on."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle.media.join import join_volumes
from appliance.bundle.parity import repair as repairing
from appliance.bundle.parity import task
from appliance.bundle.parity.whole import make_recovery_volume
from appliance.errors import DamageTooGreat, SpaceExhausted, VolumeMissing
from appliance.progress import Silent
from tests.unit.bundle.parity.conftest import LAST, NOTICE, SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.bundle.parity.repaired import Repaired

    Repair = Callable[..., Repaired]


@pytest.fixture
def three(sick: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(sick, 5, 7)


@pytest.fixture
def recovery(three: list[Path], tmp_path: Path) -> Path:
    (tmp_path / "recovery").mkdir()
    work = tmp_path / "work"
    return make_recovery_volume(
        three, tmp_path / "recovery", root=None, work=work, progress=Silent()
    ).folder


def test_mended_files_elsewhere_are_joined_with_what_was_given(
    three: list[Path], pristine_parity: Path, tmp_path: Path, repair: Repair
) -> None:
    overwrite(three[0] / NOTICE, 0, b"rot")
    out = tmp_path / "out"
    (step,) = repair(*three, out=out).advice()
    places = " ".join(map(str, [*three, out]))
    assert f"damaged still: appliance media join {places} --out NEW" in step
    join_volumes([*three, out], tmp_path / "whole", progress=Silent())
    assert same(tmp_path / "whole", pristine_parity)


def test_a_second_run_says_that_the_media_are_still_damaged(
    three: list[Path], tmp_path: Path, repair: Repair
) -> None:
    overwrite(three[0] / NOTICE, 0, b"rot")
    repair(*three, out=tmp_path / "out")
    again = repair(*three, out=tmp_path / "out")
    assert (again.mended, again.wrong, again.complete) == ((), 1, False)
    assert [(each.folder, each.path) for each in again.kept] == [(tmp_path / "out", NOTICE)]
    assert "damaged still" in again.advice()[0]


def test_labels_that_cannot_be_mended_elsewhere_are_said(
    three: list[Path], tmp_path: Path, repair: Repair
) -> None:
    (three[1] / "volume.json").unlink()
    (note,) = [each for each in repair(*three, out=tmp_path / "out").notes if "without --out" in each]
    assert f"1 label or second copy damaged, the first is {three[1] / 'volume.json'}" in note


def test_a_recovery_volume_without_a_medium_asks_for_one(
    three: list[Path], recovery: Path, repair: Repair
) -> None:
    shutil.rmtree(three[1])
    result = repair(three[0], three[2], recovery)
    assert result.advice() == ["name a medium with --out DIR: volume 2 of 3 can be made again there"]
    assert "all but one of volumes 2, 3 of 3" in repair(three[0], recovery).advice()[0]


def test_two_lost_volumes_are_refused_before_anything_is_read(
    three: list[Path], recovery: Path, tmp_path: Path, repair: Repair
) -> None:
    with pytest.raises(VolumeMissing, match="volumes 2, 3 of 3 are not here") as caught:
        repair(three[0], recovery, out=tmp_path / "new")
    assert caught.value.wanted == "2 of 3 volumes: a recovery volume brings back one"
    assert not (tmp_path / "new").exists()


def test_a_volume_comes_back_though_another_is_damaged(
    three: list[Path], recovery: Path, tmp_path: Path, repair: Repair
) -> None:
    shutil.rmtree(three[1])
    overwrite(three[0] / "VERIFY.txt", 0, b"rot")
    result = repair(three[0], three[2], recovery, out=tmp_path / "new")
    assert (result.restored, result.wrong, result.advice()) == (2, 1, [])
    assert f"1 file on the other volumes damaged, the first is {three[0] / 'VERIFY.txt'}" in result.notes[0]


def test_a_bundle_that_is_right_is_to_be_verified(sick: Path, repair: Repair) -> None:
    result = repair(sick)
    assert result.complete
    assert result.advice() == [f"appliance verify {sick} --trust ROOT"]


def test_a_full_medium_names_the_way_around(
    three: list[Path], repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    (three[0] / NOTICE).write_bytes(b"cut")
    monkeypatch.setattr(task, "free_bytes", lambda _: 3)
    with pytest.raises(SpaceExhausted) as caught:
        repair(*three)
    join = f"appliance media join {' '.join(map(str, three))} DIR --out NEW"
    assert "--out DIR" in str(caught.value.hint)
    assert join in str(caught.value.hint)


@pytest.mark.parametrize("with_recovery", [False, True])
def test_damage_that_is_too_great_asks_for_what_may_exist(
    with_recovery: bool, three: list[Path], recovery: Path, repair: Repair
) -> None:
    for each in (SLICE, LAST):
        (three[1] / each).unlink()
    overwrite(three[0] / SLICE.replace("0001", "0000"), 0, bytes(4 << 20))
    given = [recovery] if with_recovery else []
    with pytest.raises(DamageTooGreat) as caught:
        repair(*three, *given)
    hint = str(caught.value.hint)
    assert hint.startswith("name another copy of what is damaged")
    assert ("the recovery volume" in hint) is not with_recovery
    assert hint.endswith("else write the volume again from the bundle")


def test_a_folder_alone_has_no_volumes_to_ask_for(sick: Path, repair: Repair) -> None:
    for each in (SLICE, LAST):
        (sick / each).unlink()
    with pytest.raises(DamageTooGreat) as caught:
        repair(sick)
    assert "volume" not in str(caught.value.hint)
    assert str(caught.value.hint).endswith("else copy it again from its source")


@pytest.mark.parametrize(
    "change", [{"absent": (2,)}, {"left": (SLICE,)}, {"restored": 2}, {"out": Path("out"), "wrong": 1}]
)
def test_what_is_not_whole_and_right_is_not_complete(
    change: Mapping[str, Any], sick: Path, repair: Repair
) -> None:
    """So that nobody is told that it was verified."""
    right = repair(sick)
    assert right.complete
    assert not replace(right, **change).complete


def test_a_file_put_elsewhere_that_cannot_be_read_is_put_there_again(
    sick: Path, tmp_path: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    repair(sick, out=tmp_path / "out")

    def unreadable(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(repairing, "hashlib", SimpleNamespace(file_digest=unreadable))
    assert [each.path for each in repair(sick, out=tmp_path / "out").mended] == [SLICE]
