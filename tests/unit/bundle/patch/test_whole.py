"""Files of very many slices: as one file, and with few of them open."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.patch.applying import copy_range
from appliance.bundle.patch.whole import MAX_OPEN, FolderFiles, NewParts, WholeFile
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

COUNT = 300
SIZE = 3


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def slices(folder: Path) -> list[tuple[str, int]]:
    parts = [(str(folder / f"s-{number:04}"), SIZE) for number in range(COUNT)]
    for number, (path, _) in enumerate(parts):
        Path(path).write_bytes(b"%03d" % number)
    return parts


WHOLE = b"".join(b"%03d" % number for number in range(COUNT))


def test_a_file_of_many_slices_is_read_with_few_of_them_open(tmp_path: Path) -> None:
    parts, before = slices(tmp_path), open_files()
    with WholeFile(FolderFiles(), "whole", parts) as whole:
        assert whole.read(0, whole.size) == WHOLE
        assert open_files() - before == MAX_OPEN
        for offset in (0, 899, 1, 450, 0, 897):
            assert whole.read(offset, 1) == WHOLE[offset : offset + 1]
        assert open_files() - before == MAX_OPEN
    assert open_files() == before


def test_the_slice_that_is_used_stays_open(tmp_path: Path) -> None:
    """Two places that are read in turn, as a match and its file are, open nothing again and again."""
    opened: list[str] = []

    class Counted(FolderFiles):
        def open(self, path: str) -> AbstractContextManager[int]:
            opened.append(path)
            return super().open(path)

    parts = slices(tmp_path)[: 3 * MAX_OPEN]
    with WholeFile(Counted(), "whole", parts) as whole:
        whole.read(0, 1)
        opened.clear()
        for number in range(1, 2 * MAX_OPEN):
            whole.read(0, 1)
            whole.read(number * SIZE, 1)
    assert opened == [path for path, _ in parts[1 : 2 * MAX_OPEN]]


@pytest.mark.parametrize("number", [0, 150, COUNT - 1])
def test_a_slice_of_another_size_is_found_before_any_is_read(tmp_path: Path, number: int) -> None:
    parts, before = slices(tmp_path), open_files()
    Path(parts[number][0]).write_bytes(b"more")
    with pytest.raises(DigestMismatch, match="another size"), WholeFile(FolderFiles(), "whole", parts):
        pytest.fail("it was opened")
    assert open_files() == before


def test_many_slices_are_made_with_one_of_them_open(tmp_path: Path) -> None:
    before = open_files()
    made = NewParts(tmp_path / "new", [(f"s-{number:04}", SIZE) for number in range(COUNT)])
    assert open_files() == before
    done = 0
    for fd, start, count in made.place(0, len(WHOLE)):
        os.pwrite(fd, WHOLE[done : done + count], start)
        done += count
        assert open_files() == before + 1
    for fd, start, count in made.place(4, 4):
        assert os.pread(fd, count, start) == {1: b"01", 0: b"00"}[start]
    made.close()
    assert open_files() == before
    assert b"".join((tmp_path / "new" / path).read_bytes() for path in made.paths) == WHOLE


def test_an_empty_file_is_made_too(tmp_path: Path) -> None:
    made = NewParts(tmp_path, [("empty", 0)])
    assert list(made.place(0, 0)) == []
    assert (tmp_path / "empty").read_bytes() == b""
    assert os.fstat(made.fd(0)).st_size == 0
    made.close()


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["a bad sector", "a full disk"])
def test_a_file_that_fails_while_the_kernel_copies_is_named(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not say which of the two it was; a full disk can be only one of them."""

    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    (tmp_path / "one").write_bytes(WHOLE)
    sink = NewParts(tmp_path, [("made", len(WHOLE))])
    with WholeFile(FolderFiles(), "one of the base", [(str(tmp_path / "one"), len(WHOLE))]) as source:
        monkeypatch.setattr(os, "copy_file_range", fails)
        monkeypatch.setattr(os, "pread", fails)
        with pytest.raises(DigestMismatch if code == errno.EIO else OSError) as raised:
            copy_range(source, 0, sink, 0, len(WHOLE))
    sink.close()
    assert code == errno.ENOSPC or "one of the base" in str(raised.value)
