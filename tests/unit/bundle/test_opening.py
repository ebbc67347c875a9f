"""One bundle as one tree: how it is opened, and how many files in a row are read from it."""

from __future__ import annotations

import errno
import os
import shutil
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.opening import open_tree
from appliance.errors import DigestMismatch, FileMissing, FileUnexpected, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WHEEL = "payload/engine/engine-1.0-py3-none-any.whl"


def test_one_folder_is_a_tree(bundle: Path) -> None:
    for given in (bundle, [bundle], (bundle,)):
        with open_tree(given) as tree:
            assert (tree.folder, tree.folders) == (bundle, (bundle,))
            assert tree.read(WHEEL, limit=100) == b"wheel"


def test_no_folder_is_none() -> None:
    with pytest.raises(Usage):
        open_tree([])


def test_a_cursor_opens_files_of_several_folders(bundle: Path) -> None:
    with open_tree(bundle) as tree, tree.cursor() as cursor:
        for path in (
            WHEEL,
            "payload/engine/requirements.txt",
            "VERIFY.txt",
            "payload/extras/site/notice.txt",
        ):
            fd, found = cursor.open(path)
            assert os.read(fd, 1 << 20) == (bundle / path).read_bytes()
            assert found.st_size == (bundle / path).stat().st_size
            os.close(fd)


def test_a_cursor_refuses_what_a_tree_refuses(bundle: Path) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting names
    (bundle / "payload/engine/link").symlink_to("requirements.txt")
    os.mkfifo(bundle / "payload/engine/pipe")
    (bundle / "payload/second").hardlink_to(bundle / WHEEL)
    with open_tree(bundle) as tree, tree.cursor() as cursor:
        for path in ("payload/engine/link", "payload/engine/pipe", WHEEL, "payload/extras/site"):
            with pytest.raises(FileUnexpected):
                cursor.open(path)
        for path in ("payload/engine/absent", "payload/absent/file"):
            with pytest.raises(FileMissing):
                cursor.open(path)
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208 - counting names


def test_a_cursor_looks_a_folder_up_when_it_comes_to_it(bundle: Path) -> None:
    """Whatever lay there when the set of files was checked."""
    with open_tree(bundle) as tree, tree.cursor() as cursor:
        os.close(cursor.open("VERIFY.txt")[0])
        shutil.move(bundle / "payload/engine", bundle.parent / "elsewhere")
        (bundle / "payload/engine").symlink_to(bundle.parent / "elsewhere")
        with pytest.raises(FileUnexpected, match="payload/engine"):
            cursor.open(WHEEL)


def test_a_file_on_a_medium_that_was_pulled_cannot_be_read(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor can it be asked what it is."""

    def gone(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    with open_tree(bundle) as tree, monkeypatch.context() as patch:
        patch.setattr(os, "stat", gone)
        patch.setattr(os, "open", gone)
        with (
            pytest.raises(DigestMismatch, match=r"VERIFY\.txt cannot be read") as fault,
            tree.open("VERIFY.txt"),
        ):
            pass
    assert fault.value.found == "Transport endpoint is not connected"


def test_names_and_kinds_are_checked_without_what_only_opening_tells(bundle: Path) -> None:
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    (bundle.parent / "second").hardlink_to(bundle / WHEEL)
    seen: list[Sequence[int]] = []
    with open_tree(bundle) as tree:
        tree.check_names(files, seen.append)
        assert sorted(chain.from_iterable(seen)) == list(range(len(files)))
        with pytest.raises(FileUnexpected, match="not what belongs there"):
            tree.check_set(files)
        with pytest.raises(FileMissing, match="1 listed file"):
            tree.check_names([*files, "payload/engine/absent"], seen.append)
        with pytest.raises(FileUnexpected, match="not of this bundle"):
            tree.check_names([path for path in files if path != WHEEL], seen.append)


def test_nothing_may_be_opened_of_a_bundle_that_holds_more(bundle: Path) -> None:
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    (bundle / "odd").touch()
    seen: list[Sequence[int]] = []
    with open_tree(bundle) as tree, pytest.raises(FileUnexpected, match="not of this bundle"):
        tree.check_names(files, seen.append)
    assert seen == []


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("requirements.txt")])
def test_another_kind_is_noticed_by_its_name_s_entry(make: Callable[[Path], object], bundle: Path) -> None:
    files = sorted(str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file())
    (bundle / WHEEL).unlink()
    make(bundle / WHEEL)
    seen: list[Sequence[int]] = []
    with open_tree(bundle) as tree, pytest.raises(FileUnexpected, match="not what belongs there"):
        tree.check_names(files, seen.append)
    assert not any(files.index(WHEEL) in numbers for numbers in seen)
