"""Putting mended files in their places: what a medium may refuse, and what it may do to them."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending, placing, proving, task
from appliance.errors import MediumFailed, MediumUnsuitable, SpaceExhausted
from tests.unit.bundle.parity.conftest import LAST, SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired

    Repair = Callable[..., Repaired]


def test_a_write_protected_medium_needs_another_folder(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(sick / SLICE, 0, b"rot")

    def protected(_: Path) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(placing, "create_file", protected)
    with pytest.raises(MediumUnsuitable) as caught:
        repair(sick)
    assert "--out" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (errno.EROFS, MediumUnsuitable),
        (errno.EIO, MediumFailed),
        (errno.ENOTCONN, MediumFailed),
        (errno.ENOSPC, SpaceExhausted),
    ],
)
def test_a_target_that_takes_no_file_is_refused_before_anything_is_changed(
    fault: int, said: type[Exception], sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(sick / SLICE, 0, b"rot")

    def refuse(_: Path) -> int:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(placing, "create_file", refuse)
    monkeypatch.setattr(mending, "repair_files", lambda *_, **__: pytest.fail("par2 was started"))
    for out in (None, sick.parent / "out"):
        with pytest.raises(said):
            repair(sick, out=out)


@pytest.mark.parametrize("module", [task, mending])
def test_too_little_room_is_said_before_anything_is_changed(
    module: object,
    sick: Path,
    repair: Repair,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: Callable[[Path], object],
) -> None:
    (sick / SLICE).write_bytes((sick / SLICE).read_bytes()[:4_000_000])
    before = snapshot(sick)
    monkeypatch.setattr(module, "free_bytes", lambda _: 1000)
    with pytest.raises(SpaceExhausted) as caught:
        repair(sick)
    assert "nothing was changed" in str(caught.value.hint)
    assert snapshot(sick) == before


def test_a_medium_that_does_not_keep_its_bytes(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[Path], object]
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    before = snapshot(sick)
    copy = placing._copy

    def forgetful(source: Path, target: Path) -> None:
        copy(source, target)
        overwrite(target, 10, b"\0")

    monkeypatch.setattr(placing, "_moved", lambda *_: False)
    monkeypatch.setattr(placing, "_copy", forgetful)
    with pytest.raises(MediumFailed, match="something else than was written"):
        repair(sick)
    assert snapshot(sick / "payload") != {}
    assert snapshot(sick) == before


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOTCONN, errno.ECONNABORTED])
def test_a_medium_that_fails_while_it_is_written_to(
    fault: int, sick: Path, tmp_path: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(sick / SLICE, 0, b"rot")

    def failing(_fd: int) -> None:
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(placing.os, "fsync", failing)
    with pytest.raises(MediumFailed, match="does not keep what is written") as caught:
        repair(sick, out=tmp_path / "out")
    assert caught.value.found == os.strerror(fault)


def test_what_is_moved_on_its_medium_is_read_back_once(
    sick: Path, pristine_parity: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was made: a rename changes no byte."""
    overwrite(sick / SLICE, 0, b"rot")
    overwrite(sick / LAST, 0, b"rot")
    read = []
    real = proving.digest_on_medium

    def noting(path: Path) -> str:
        read.append(path)
        return real(path)

    monkeypatch.setattr(proving, "digest_on_medium", noting)
    monkeypatch.setattr(placing, "digest_on_medium", lambda path: pytest.fail(f"{path} is read again"))
    repair(sick)
    assert sorted(path.name for path in read) == sorted([SLICE.rpartition("/")[2], LAST.rpartition("/")[2]])
    assert same(sick, pristine_parity)


def test_what_does_not_read_back_where_it_was_made_is_not_put_in_its_place(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch, snapshot: Callable[[Path], object]
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    before = snapshot(sick)
    mend = task.mend

    def decaying(*arguments: object, **options: object) -> dict[str, Path]:
        mended = mend(*arguments, **options)  # type: ignore[arg-type] # passed on as they came
        overwrite(mended[SLICE], 10, b"\0\1")
        return mended

    monkeypatch.setattr(task, "mend", decaying)
    with pytest.raises(MediumFailed, match="something else than was written"):
        repair(sick)
    assert snapshot(sick) == before


def test_what_is_copied_to_another_medium_is_read_back_there(
    sick: Path, tmp_path: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it was right where it was made says nothing of a medium it is copied to."""
    overwrite(sick / SLICE, 0, b"rot")
    read = []
    real = placing.digest_on_medium
    monkeypatch.setattr(placing, "_moved", lambda *_: False)
    monkeypatch.setattr(placing, "digest_on_medium", lambda path: read.append(path.parent) or real(path))
    repair(sick, out=tmp_path / "out")
    assert read == [tmp_path / "out"]


def test_a_digest_is_of_what_lies_on_the_medium(tmp_path: Path) -> None:
    data = os.urandom((4 << 20) + 5)
    for name, each in {"long": data, "short": b"x", "empty": b""}.items():
        (tmp_path / name).write_bytes(each)
        assert proving.digest_on_medium(tmp_path / name) == hashlib.sha256(each).hexdigest()
    paths = {tmp_path / "long": hashlib.sha256(data).hexdigest(), tmp_path / "short": "0" * 64}
    assert proving.prove({**paths, tmp_path / "none": "0" * 64}) == {tmp_path / "long"}
