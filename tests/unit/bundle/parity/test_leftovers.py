"""What an interrupted join or repair left: used, or named and removed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.check import check_media
from appliance.bundle.media.join import join_volumes
from appliance.bundle.paths import MENDED_PARTIAL
from appliance.bundle.verify import verify_bundle
from appliance.errors import DigestMismatch, FileUnexpected
from appliance.progress import Silent
from appliance.trust.root import root_bytes
from tests.unit.bundle.parity.conftest import SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired
    from appliance.trust.root import Root

    Repair = Callable[..., Repaired]


FIRST = SLICE.replace("0001", "0000")


def test_what_join_could_not_copy_is_mended_from_its_part(
    sick: Path, pristine_parity: Path, volumes: Callable[..., list[Path]], tmp_path: Path, repair: Repair
) -> None:
    """As join advises: two slices are more than the parity can give, their damaged copies lie in parts."""
    three = volumes(sick, 4, 6)
    for each in (FIRST, SLICE):
        overwrite(three[1] / each, 12345, b"rot")
    with pytest.raises(DigestMismatch, match="damaged") as caught:
        join_volumes(three, tmp_path / "whole", progress=Silent())
    partial = tmp_path / ".whole.joining"
    assert f"appliance media repair {partial}" in str(caught.value.hint)
    result = repair(partial)
    assert {each.path for each in result.mended} == {FIRST, SLICE}
    assert result.advice() == ["run the same `appliance media join` again: it goes on with what was mended"]
    join_volumes(three, tmp_path / "whole", progress=Silent())
    assert same(tmp_path / "whole", pristine_parity)


def test_a_part_that_is_whole_needs_no_parity(sick: Path, pristine_parity: Path, repair: Repair) -> None:
    """Join was killed before it gave the file its name; the number is that in the bundle's order."""
    parts = sick / "incoming"
    parts.mkdir()
    (sick / SLICE).rename(parts / "5.part")
    shutil.rmtree(sick / "parity")
    (mended,) = [each for each in repair(sick).mended if each.path == SLICE]
    assert mended.state == "missing"
    shutil.rmtree(parts)
    assert same(sick, pristine_parity)


def test_what_an_interrupted_repair_left_is_named(sick: Path, two_of_three: Root) -> None:
    (sick / MENDED_PARTIAL).write_bytes(b"half a file")
    with pytest.raises(FileUnexpected) as caught:
        verify_bundle(sick, root_bytes(two_of_three), progress=Silent())
    assert "an interrupted repair left it" in str(caught.value.hint)
    (sick / "stranger").write_bytes(b"")
    with pytest.raises(FileUnexpected, match="not of this bundle") as caught:
        verify_bundle(sick, root_bytes(two_of_three), progress=Silent())
    assert "find out who put it there" in str(caught.value.hint)


def test_check_says_that_a_repair_was_interrupted(
    sick: Path, volumes: Callable[..., list[Path]], repair: Repair
) -> None:
    first, *_ = volumes(sick, 4, 6)
    (first / MENDED_PARTIAL).write_bytes(b"half a file")
    found = check_media([first], root=None, progress=Silent())
    assert not found.sound
    assert any("interrupted" in step and "appliance media repair" in step for step in found.advice())
    repair(first)
    assert check_media([first], root=None, progress=Silent()).sound


def test_it_is_removed_where_nothing_is_damaged(sick: Path, pristine_parity: Path, repair: Repair) -> None:
    (sick / MENDED_PARTIAL).write_bytes(b"half a file")
    assert repair(sick).mended == ()
    assert same(sick, pristine_parity)


def test_it_stays_where_nothing_is_to_be_changed(sick: Path, tmp_path: Path, repair: Repair) -> None:
    (sick / MENDED_PARTIAL).write_bytes(b"half a file")
    repair(sick, out=tmp_path / "out")
    assert (sick / MENDED_PARTIAL).exists()


def test_what_an_interrupted_repair_left_is_cleared_away(
    sick: Path, pristine_parity: Path, repair: Repair
) -> None:
    overwrite(sick / SLICE, 0, b"rot")
    (sick / MENDED_PARTIAL).write_bytes(b"half a file")
    repair(sick)
    assert same(sick, pristine_parity)
