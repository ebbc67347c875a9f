"""The folder that is made: new, alone, and with room."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.copying import FileCopier
from appliance.bundle.media.join import join_volumes
from appliance.errors import FileUnexpected, InProgress, SpaceExhausted, Usage
from appliance.progress import Silent
from tests.unit.bundle.media.join.joining import BLOCK, contents, name_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.media.join.joining import Join


def test_the_target_must_be_new(three: list[Path], out: Path, joined: Join, tmp_path: Path) -> None:
    out.symlink_to("nowhere")
    with pytest.raises(Usage, match="exists already"):
        joined(*three)
    with pytest.raises(Usage, match="not a folder"):
        join_volumes(three, tmp_path / "no" / "where", progress=Silent())


def test_two_runs_into_one_folder(three: list[Path], joined: Join, monkeypatch: pytest.MonkeyPatch) -> None:
    real = FileCopier.write

    def write(copier: FileCopier, *arguments: object, judge: bool) -> None:
        with pytest.raises(InProgress):
            joined(*three)
        real(copier, *arguments, judge=judge)  # type: ignore[arg-type] # passed on as it came

    monkeypatch.setattr(FileCopier, "write", write)
    joined(*three)


def test_too_little_room(
    three: list[Path], out: Path, joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    class Small:
        f_blocks, f_bavail, f_frsize = 10, 1, 4096

    monkeypatch.setattr(os, "statvfs", lambda path: Small if "joined" not in str(path) else real(path))
    with pytest.raises(SpaceExhausted):
        joined(*three)
    assert not out.exists()


def test_a_disk_that_fills_up(
    large: Path, three: list[Path], out: Path, joined: Join, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if "5.part" in name_of(fd) and offset >= BLOCK:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr("appliance.bundle.media.copying.os.pwrite", pwrite)
        with pytest.raises(SpaceExhausted):
            joined(*three)
    assert not out.exists()
    joined(*three)
    assert contents(out) == contents(large)


def test_what_lies_in_the_partial_folder_is_not_let_in(
    three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    partial.mkdir()
    (partial / "evil").write_bytes(b"x")
    with pytest.raises(FileUnexpected, match="not of this bundle"):
        joined(*three)
    assert not out.exists()


def test_what_was_joined_is_said(large: Path, joined: Join, three: list[Path]) -> None:
    done = joined(*three)
    assert done.digest == hashlib.sha256((large / "trust/SHA256SUMS").read_bytes()).hexdigest()
    assert (done.product, done.version) == ("demo", "1.0.0")
