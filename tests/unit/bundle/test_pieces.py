"""A long file of which nothing is kept: what is read again is what was hashed, or refused."""

from __future__ import annotations

import hashlib
import os
import random
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.pieces import read_pieces
from appliance.errors import BundleMalformed, DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.bundle.pieces import Pieces

MARK = b",{"


def pieces_of(path: Path, data: bytes, size: int, limit: int = 1 << 20) -> Pieces:
    path.write_bytes(data)
    return read_pieces(lambda: opened(path), "name", mark=MARK, limit=limit, size=size)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("data", [b"", b"a", b",{", b",{,{,{", b"aaaa,{bb,{c", b"x,{" * 300, b",,{{,{,"])
def test_pieces_join_to_the_file_and_begin_with_the_mark(tmp_path: Path, data: bytes, size: int) -> None:
    pieces = pieces_of(tmp_path / "file", data, size)
    assert pieces.join() == data
    assert (pieces.sha256, pieces.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert [pieces[number] for number in range(len(pieces))] == list(pieces)
    assert all(piece.startswith(MARK) for piece in list(pieces)[1:])


def test_a_mark_across_two_reads_is_a_border(tmp_path: Path) -> None:
    assert list(pieces_of(tmp_path / "file", b"aaa,{b", 4)) == [b"aaa", b",{b"]


def test_no_piece_is_much_longer_than_asked_for(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(50_000).replace(b"a", MARK)  # noqa: S311 - the same bytes each time
    pieces = pieces_of(tmp_path / "file", data, 4096)
    assert max(map(len, pieces)) <= 4096


def test_an_endless_file_is_refused(tmp_path: Path) -> None:
    pieces_of(tmp_path / "file", b"a" * 100, 10, limit=100)
    with pytest.raises(BundleMalformed, match="name is too large"):
        pieces_of(tmp_path / "file", b"a" * 101, 10, limit=100)


def test_a_medium_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match="name cannot be read"):
        read_pieces(lambda: opened(tmp_path), "name", mark=MARK, limit=10)  # reading a folder fails


@pytest.mark.parametrize("number", [0, 1, 3])
def test_what_is_read_again_is_compared(tmp_path: Path, number: int) -> None:
    pieces = pieces_of(tmp_path / "file", b"aaaa,{bb,{c,{dd", 4)
    assert list(pieces) == [b"aaaa", b",{bb", b",{c", b",{dd"]
    changed = [*pieces]
    changed[number] = changed[number].replace(changed[number][-1:], b"x")
    (tmp_path / "file").write_bytes(b"".join(changed))
    for other in range(4):
        if other == number:
            with pytest.raises(DigestMismatch, match="name was changed"):
                pieces[other]
        else:
            assert pieces[other] == changed[other]


def test_a_file_cut_short_after_it_was_read_is_refused(tmp_path: Path) -> None:
    pieces = pieces_of(tmp_path / "file", b"aaaa,{bb,{c,{dd", 4)
    (tmp_path / "file").write_bytes(b"aaaa,{b")
    assert pieces[0] == b"aaaa"
    with pytest.raises(DigestMismatch, match="name was changed"):
        pieces[1]
    with pytest.raises(DigestMismatch, match="name was changed"):
        pieces.join()


def test_a_medium_that_gives_few_bytes_at_once_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, start: real(fd, min(size, 3), start))
    pieces = pieces_of(tmp_path / "file", b"aaaa,{bb,{c,{dd", 8)
    assert list(pieces) == [b"aaaa", b",{bb", b",{c", b",{dd"]
