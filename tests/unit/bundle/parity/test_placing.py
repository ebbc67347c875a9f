"""Putting mended files in their places: what a medium may refuse, and what it may do to them."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.parity import mending, placing, task
from appliance.errors import MediumFailed, MediumUnsuitable, SpaceExhausted
from tests.unit.bundle.parity.conftest import SLICE, overwrite

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
