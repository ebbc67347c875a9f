"""Sizes are compared with what was signed, without reading them."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.fileset import ListedFiles
from appliance.bundle.listing import Listing
from appliance.bundle.lists import Lists
from appliance.bundle.sizes import measure
from appliance.bundle.tree import Tree
from appliance.errors import DigestMismatch, FileMissing, FileUnexpected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> ListedFiles:
    """Three files, of 1, 2 and 3 bytes."""
    (tmp_path / "d").mkdir()
    for number, name in enumerate(("a", "b", "d/c"), 1):
        (tmp_path / name).write_bytes(b"x" * number)
    lines = b"".join(b"0" * 64 + b"  %s\n" % name for name in (b"a", b"b", b"d/c"))
    return ListedFiles(Lists(Listing(lines, array("I", [0, 68, 136, 206]))), array("q", [1, 2, 3]))


def test_only_those_asked_for_are_looked_at(tmp_path: Path, files: ListedFiles) -> None:
    (tmp_path / "b").unlink()
    with Tree(tmp_path) as tree:
        measure(tree, files, [0, 2])
        with pytest.raises(FileMissing, match="b is missing"):
            measure(tree, files, [0, 1])


def test_all_that_have_another_size_are_named(tmp_path: Path, files: ListedFiles) -> None:
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "d/c").write_bytes(b"four")
    with (
        Tree(tmp_path) as tree,
        pytest.raises(DigestMismatch, match=r"another size than was signed: 2 files, first b") as caught,
    ):
        measure(tree, files, range(3))
    assert (caught.value.found, caught.value.wanted) == ("0 bytes", "2 bytes")
    assert "b, d/c" in (caught.value.hint or "")


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("a")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a link": _link,
    "a second name": lambda path: path.with_name("e").hardlink_to(path),
    "special permissions": lambda path: path.chmod(0o4644),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_plain_file_is_refused(
    change: Callable[[Path], object], tmp_path: Path, files: ListedFiles
) -> None:
    change(tmp_path / "b")
    with Tree(tmp_path) as tree, pytest.raises(FileUnexpected):
        measure(tree, files, range(3))
