"""Checking media that are not what they seem to be: pulled, unfinished, not mounted, copied."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.parity.repair import repair_bundle
from appliance.bundle.tree import Tree
from appliance.errors import FileMissing, MediumFailed, VolumeMissing
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.bundle.media.checked import MediaCheck

MODEL = "payload/model/tiny.gguf"


@pytest.fixture
def three(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    """The engine; the empty file of the extras; the notice and the model."""
    return volumes(bundle, 2, 3)


def check(*folders: Path) -> MediaCheck:
    return check_media(folders, root=None, progress=Silent())


class Pull:
    """Makes one volume unreadable from the first read of one of its files on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._pulled = False
        self._preadv, answers = os.preadv, Tree.answers
        monkeypatch.setattr(os, "preadv", self._read)
        monkeypatch.setattr(
            Tree, "answers", lambda tree: answers(tree) and not (tree.folder == folder and self._pulled)
        )

    def _read(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        self._pulled = self._pulled or path == self._folder / self._name
        if self._pulled and path.is_relative_to(self._folder):
            raise OSError(107, "Transport endpoint is not connected")
        return self._preadv(fd, buffers, offset)


def test_a_medium_that_is_pulled_meanwhile(three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing could be read of is not called damaged, and the others are checked to their end."""
    (three[0] / "VERIFY.txt").write_bytes(b"x")
    (three[2] / "payload/extras/site/notice.txt").write_bytes(b"NOTICE\n")
    Pull(monkeypatch, three[2], MODEL)
    found = check(*three)
    one, two, third = found.volumes
    assert [damage.path for damage in one.damaged] == ["VERIFY.txt"]
    assert two.sound
    assert [damage.path for damage in third.damaged] == ["payload/extras/site/notice.txt"]
    assert (third.gone, third.sound) == ("cannot be read: Transport endpoint is not connected", False)
    assert isinstance(found.failure, MediumFailed)
    assert f"volume 3 of 3 ({three[2]}) cannot be read any more" in found.failure.message
    assert any(f"put volume 3 of 3 ({three[2]}) in" in step for step in found.advice())


def test_a_medium_that_is_gone_before_it_is_read(
    three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tree, "answers", lambda tree: tree.folder != three[1])
    shutil.rmtree(three[1] / "payload")
    found = check(*three)
    assert found.volumes[1].gone
    assert not found.volumes[1].damaged
    assert not found.volumes[1].strange


def test_a_medium_that_is_gone_before_anything_is_known(
    three: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("appliance.bundle.media.readback.sync_file_system", fail)
    monkeypatch.setattr(Tree, "answers", lambda tree: tree.folder != three[1])
    with pytest.raises(MediumFailed, match=f"the medium at {three[1]} cannot be read any more"):
        check(*three)


def begin_again(volume: Path) -> Path:
    """Leave of a volume what there is of it before its first file has its name."""
    label = (volume / "volume.json").read_bytes()
    shutil.rmtree(volume)
    (volume / "incoming").mkdir(parents=True)
    (volume / "incoming/0.part").write_bytes(b"begun")
    (volume / "volume.json.partial").write_bytes(label)
    return volume


def test_a_volume_that_was_hardly_begun(three: list[Path]) -> None:
    begin_again(three[1])
    for given in (three[1], three[1].parent):
        with pytest.raises(
            FileMissing, match=f"the volume in {three[1]} was not written to its end"
        ) as fault:
            check(given)
        assert "the same `appliance media write`" in str(fault.value.hint)
        with pytest.raises(FileMissing, match=f"{three[1]} was not written to its end"):
            repair_bundle([given], root=None, out=None, work=three[0], progress=Silent())


def test_a_volume_that_was_hardly_begun_beside_others(three: list[Path]) -> None:
    begin_again(three[1])
    found = check(*(volume.parent for volume in three))
    begun = found.volumes[1]
    assert (begun.name, begun.unfinished) == (f"volume 2 of 3 ({three[1]})", True)
    assert not begun.damaged
    assert not begun.strange
    assert not found.absent
    assert found.advice()[0].startswith("write volume 2 of 3")
    assert [volume.sound for volume in found.volumes] == [True, False, True]


def test_a_medium_that_is_not_mounted(
    three: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VolumeMissing, match=f"{empty} holds nothing of a bundle") as fault:
        check(empty, three[1], three[2])
    assert fault.value.found == "an empty folder: no medium is mounted there"
    assert str(fault.value.wanted).startswith("volume 1: payload/engine/")
    (three[1] / "volume.json").unlink()  # then it may be this one that is volume 1
    with pytest.raises(FileMissing, match=f"{empty} holds nothing of a bundle$"):
        check(empty, three[1], three[2])
    monkeypatch.setattr(Path, "is_mount", lambda _: True)
    with pytest.raises(FileMissing) as fault:
        check(empty)
    assert fault.value.found == "an empty medium"
    (empty / "photo").touch()
    with pytest.raises(FileMissing) as fault:
        check(empty)
    assert (type(fault.value), fault.value.found) == (FileMissing, "only photo")


def test_a_copy_of_a_volume_is_said(three: list[Path], tmp_path: Path) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    found = check(*three, again)
    one, other = f"volume 2 of 3 ({three[1]})", f"volume 2 of 3 ({again})"
    assert found.sound
    assert found.copies == {other: one}
    assert f"name only one of them to these: {other} holds what {one} holds" in found.advice()
