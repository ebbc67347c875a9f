"""Volumes in any order are the bundle; what is missing, unfinished or not mounted is named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from appliance.bundle.opening import open_tree
from appliance.errors import FileMissing, Usage, VolumeMissing
from tests.unit.bundle.volumes.several import MODEL, notes, refusal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.verify import VerifiedBundle


def test_volumes_in_any_order_are_the_bundle(
    bundle: Path, three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    whole = verified(bundle)
    for order in (three, three[::-1], [three[1], three[2], three[0]]):
        found = verified(order)
        assert (found.digest, found.files, found.signers) == (whole.digest, whole.files, whole.signers)
        assert found.folders == tuple(order)
    assert notes(three) == ()


def test_a_medium_stands_for_its_only_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    for folder in three:
        (folder.parent / "holiday").mkdir()
        (folder.parent / "holiday" / "photo.jpg").write_bytes(b"x")
        (folder.parent / ".Trash-0").mkdir()
        (folder.parent / "readme.txt").write_bytes(b"x")
    assert verified([folder.parent for folder in three]).folders == tuple(three)


def test_a_medium_stands_for_its_only_bundle(
    bundle: Path, tmp_path: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    medium = tmp_path / "stick"
    medium.mkdir()
    bundle.rename(medium / "demo")
    assert verified(medium).folder == medium / "demo"
    (medium / "link").symlink_to("demo")
    assert verified(medium).folder == medium / "demo"


def test_a_medium_of_several_volumes_must_be_told_apart(three: list[Path]) -> None:
    shutil.copytree(three[1], three[0].parent / "other\x1b[2J")
    said = refusal(Usage, open_tree, [three[0].parent])
    assert f"{three[0].name}, other\\x1b[2J" in said
    assert "name the folder itself" in said


def test_one_volume_that_is_all(
    bundle: Path, volumes: Callable[..., list[Path]], verified: Callable[..., VerifiedBundle]
) -> None:
    [only] = volumes(bundle)
    assert verified(only).folders == (only,)


def test_a_volume_that_was_not_written_to_its_end(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[1] / "volume.json").rename(three[1] / "volume.json.partial")
    said = refusal(FileMissing, verified, three)
    assert f"{three[1]} was not written to its end" in said
    assert "media write" in said


def test_a_volume_that_was_hardly_begun(three: list[Path], verified: Callable[..., VerifiedBundle]) -> None:
    """Nothing on it has its name yet, and it is found by the medium all the same."""
    label = (three[1] / "volume.json").read_bytes()
    shutil.rmtree(three[1])
    (three[1] / "incoming").mkdir(parents=True)
    (three[1] / "volume.json.partial").write_bytes(label)
    for given in ([three[1].parent], [folder.parent for folder in three]):
        said = refusal(FileMissing, verified, given)
        assert f"{three[1]} was not written to its end" in said


def test_a_medium_that_is_not_mounted_is_the_volume_that_is_missing(
    three: list[Path], tmp_path: Path, verified: Callable[..., VerifiedBundle]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refusal(VolumeMissing, verified, [empty, three[1], three[2]])
    assert f"{empty} holds nothing of a bundle, and volume 1 of 3 is missing" in said
    assert "an empty folder: no medium is mounted there" in said
    assert "volume 1: payload/engine/engine-1.0-py3-none-any.whl to payload/engine/requirements.txt" in said
    assert "holds nothing of a bundle" in refusal(FileMissing, verified, [empty])


def test_a_missing_volume_is_named_with_what_it_holds(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    said = refusal(VolumeMissing, verified, [three[0], three[1]])
    assert "volume 3 of 3 is missing" in said
    assert f"payload/extras/site/notice.txt to {MODEL} (2 files), 4,007 bytes" in said
    said = refusal(VolumeMissing, verified, three[1:2])
    assert "volumes 1, 3 of 3 are missing" in said
    assert "volume 1: payload/engine/engine-1.0-py3-none-any.whl to payload/engine/requirements.txt" in said


def test_missing_volumes_are_named_by_any_label(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[0] / "volume.json").unlink()
    assert "volume 3 of 3 is missing" in refusal(VolumeMissing, verified, three[:2])
    (three[1] / "volume.json").unlink()
    said = refusal(FileMissing, verified, three[:2])
    assert "no label says which" in said
    assert MODEL in said


def test_a_file_lost_on_a_volume_that_is_there(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    (three[2] / MODEL).unlink()
    (three[2] / "payload/model").rmdir()
    said = refusal(FileMissing, verified, three)
    assert f"of volume 3: {MODEL}" in said


def test_a_volume_that_lost_everything_is_not_missing(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    shutil.rmtree(three[2] / "payload")
    said = refusal(FileMissing, verified, three)
    assert f"of volume 3: payload/extras/site/notice.txt, {MODEL}" in said


def test_files_may_have_moved_to_another_volume(
    three: list[Path], verified: Callable[..., VerifiedBundle]
) -> None:
    """Which volume holds a file is found by looking."""
    (three[0] / "payload/model").mkdir()
    (three[2] / MODEL).rename(three[0] / MODEL)
    (three[2] / "payload/model").rmdir()
    assert len(verified(three).files) == 9
