"""A join that was cut off goes on by block, and believes no byte unread."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.tree import Tree
from appliance.errors import DigestMismatch, MediumFailed, VolumeMissing
from tests.unit.bundle.media.join.joining import BLOCK, MODEL, SLICE, Desk, contents, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.unit.bundle.media.join.joining import Join


def test_a_pulled_volume_is_gone_on_with_by_block(
    large: Path,
    three: list[Path],
    out: Path,
    joined: Join,
    *,
    partial: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stick is pulled within the second slice; two of its blocks lie on the disk then."""
    read, names = os.preadv, Tree.names

    def preadv(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        if name_of(fd).endswith(SLICE) and offset >= 2 * BLOCK:
            raise OSError(19, "No such device")
        return read(fd, buffers, offset)

    def names_of(tree: Tree, folder: str, *, most: int) -> list[str]:
        if tree.folder == three[1] and (partial / "incoming/5.part").exists():
            raise DigestMismatch(". cannot be read", found="No such device")
        return names(tree, folder, most=most)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        patch.setattr(Tree, "names", names_of)
        with pytest.raises(MediumFailed, match="pulled out"):
            joined(*three)
    (part,) = (partial / "incoming").iterdir()
    assert part.stat().st_size == 2 * BLOCK
    assert not out.exists()
    done = joined(*three)
    assert contents(out) == contents(large)
    assert done.copied == 2 * BLOCK + BLOCK + 100


def test_a_part_with_other_bytes_is_not_believed(
    large: Path, three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    with pytest.raises(VolumeMissing):
        joined(three[0])
    (partial / "incoming").mkdir(exist_ok=True)
    (partial / "incoming/5.part").write_bytes(bytes(3 * BLOCK))
    joined(*three)
    assert contents(out) == contents(large)


def test_a_damaged_file_is_named_and_the_rest_copied(
    large: Path, three: list[Path], out: Path, joined: Join, partial: Path
) -> None:
    (three[1] / SLICE).write_bytes(bytes(4 * BLOCK))
    with pytest.raises(DigestMismatch, match="damaged: 1 file; everything else was copied") as caught:
        joined(*three)
    assert f"volume 2 of 3 ({three[1]})" in (caught.value.found or "")
    assert f"media repair {partial}" in (caught.value.hint or "")
    assert not out.exists()
    assert (partial / f"{MODEL}.slice-0002").exists()
    shutil.copy(large / SLICE, partial / SLICE)  # as a repair would
    joined(three[0])
    assert contents(out) == contents(large)


def test_a_second_copy_of_a_volume_helps(
    large: Path, three: list[Path], tmp_path: Path, out: Path, joined: Join
) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    (three[1] / SLICE).write_bytes(bytes(4 * BLOCK))
    joined(*three, again)
    assert contents(out) == contents(large)


def test_a_second_copy_is_asked_for(
    large: Path, three: list[Path], tmp_path: Path, out: Path, joined: Join
) -> None:
    again = shutil.copytree(three[1], tmp_path / "again")
    os.truncate(three[1] / SLICE, 7)
    desk = Desk(again)
    joined(*three, ask=desk)
    assert contents(out) == contents(large)
    [asked] = desk.asked
    assert "volume 2:" in asked.wanted
    assert isinstance(asked.problem, DigestMismatch)


def test_damaged_root_files_are_taken_from_their_second_copies(
    large: Path, three: list[Path], out: Path, joined: Join
) -> None:
    for folder in three:
        (folder / "manifest.json").write_bytes(b"{}")
        (folder / "trust/SHA256SUMS").write_bytes(b"")
    joined(*three)
    assert contents(out) == contents(large)


def test_a_root_file_without_second_copy_is_taken_from_another_volume(
    large: Path, three: list[Path], out: Path, joined: Join
) -> None:
    (three[0] / "VERIFY.txt").write_bytes(b"")
    joined(*three)
    assert contents(out) == contents(large)


def test_a_root_file_that_is_nowhere_right(three: list[Path], out: Path, joined: Join) -> None:
    for folder in three:
        (folder / "blocks.bin").write_bytes(b"")
    with pytest.raises(DigestMismatch, match="root files are damaged") as caught:
        joined(*three)
    assert caught.value.found == "blocks.bin"
    assert not out.exists()
