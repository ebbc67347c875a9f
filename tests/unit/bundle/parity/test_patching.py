"""On a full medium a file is mended in its place: only what is wrong is written, and nothing gets worse."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.blocks import BLOCK_SIZE
from appliance.bundle.parity import patching, placing, task
from appliance.errors import MediumFailed, SpaceExhausted
from tests.unit.bundle.parity.conftest import SLICE, overwrite, same

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.bundle.parity.repaired import Repaired

    Repair = Callable[..., Repaired]

PIECE = 4096


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A medium with room for small files only, and a work folder on another disk."""
    for module in (task, placing):
        monkeypatch.setattr(module, "free_bytes", lambda _: 100_000)
    monkeypatch.setattr(placing, "_moved", lambda *_: False)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Where and how much is written in place."""
    found: list[tuple[int, int]] = []
    write = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        found.append((offset, len(data)))
        return write(fd, data, offset)

    monkeypatch.setattr(patching.os, "pwrite", pwrite)
    return found


@pytest.mark.usefixtures("full")
def test_only_what_is_wrong_is_written(
    sick: Path, pristine_parity: Path, repair: Repair, written: list[tuple[int, int]]
) -> None:
    last = (4 << 20) - 1
    for offset in (12345, 3 * PIECE - 1, last):
        overwrite(sick / SLICE, offset, b"\0\1"[: last - offset + 1])
    before = (sick / SLICE).stat().st_ino
    assert [each.path for each in repair(sick).mended] == [SLICE]
    assert [start // PIECE for start, _ in written] == [2, 3, 1023]
    assert all((start % PIECE, size) == (0, PIECE) for start, size in written)
    assert (sick / SLICE).stat().st_ino == before
    assert same(sick, pristine_parity)


def test_where_there_is_room_the_old_file_stays_until_the_new_one_is_right(
    sick: Path, repair: Repair, written: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "_moved", lambda *_: False)
    overwrite(sick / SLICE, 12345, b"rot")
    repair(sick)
    assert written == []


@pytest.mark.usefixtures("full")
def test_a_file_of_another_size_is_not_written_into(
    sick: Path, repair: Repair, snapshot: Callable[[Path], object]
) -> None:
    """What is sound in it may lie elsewhere than where it belongs."""
    (sick / SLICE).write_bytes(b"!" + (sick / SLICE).read_bytes())
    before = snapshot(sick)
    with pytest.raises(SpaceExhausted, match="too little room") as caught:
        repair(sick)
    assert snapshot(sick) == before
    assert caught.value.found == "100,000 bytes free"
    assert caught.value.wanted == (
        f"{4 << 20:,} bytes: {SLICE} cannot be mended where it lies, and is written beside itself"
    )
    assert "--out DIR" in str(caught.value.hint)


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("lost", [1, PIECE, 99_999])
def test_a_file_that_was_cut_short_is_gone_on_with(
    lost: int, sick: Path, pristine_parity: Path, repair: Repair, written: list[tuple[int, int]]
) -> None:
    """It needs no more room than it lacks: what is there lies where it belongs."""
    size = 4 << 20
    os.truncate(sick / SLICE, size - lost)
    before = (sick / SLICE).stat().st_ino
    assert [each.path for each in repair(sick).mended] == [SLICE]
    assert (sick / SLICE).stat().st_ino == before
    assert min(start for start, _ in written) == (size - lost) // PIECE * PIECE
    assert same(sick, pristine_parity)


@pytest.mark.usefixtures("full")
def test_of_a_file_that_has_grown_the_rest_is_cut_off(
    sick: Path, pristine_parity: Path, repair: Repair, written: list[tuple[int, int]]
) -> None:
    with (sick / SLICE).open("ab") as file:
        file.write(bytes(70_000))
    before = (sick / SLICE).stat().st_ino
    assert [each.path for each in repair(sick).mended] == [SLICE]
    assert (sick / SLICE).stat().st_ino == before
    assert written == []
    assert same(sick, pristine_parity)


@pytest.mark.usefixtures("full")
def test_a_file_cut_short_by_more_than_there_is_room_for(
    sick: Path, repair: Repair, snapshot: Callable[[Path], object]
) -> None:
    os.truncate(sick / SLICE, (4 << 20) - 100_001)
    before = snapshot(sick)
    with pytest.raises(SpaceExhausted) as caught:
        repair(sick)
    assert caught.value.wanted == "100,001 bytes"
    assert snapshot(sick) == before


def test_a_file_that_lost_bytes_in_its_middle_is_not_written_into(tmp_path: Path) -> None:
    """What follows the gap is sound, and lies elsewhere."""
    right = bytes(range(256)) * (9 << 12)  # two blocks and a quarter
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(right)
    blocks = [
        hashlib.sha256(right[start : start + BLOCK_SIZE]).digest()
        for start in range(0, len(right), BLOCK_SIZE)
    ]
    for damaged, patched in (
        (right[: BLOCK_SIZE + 5], True),
        (right[:5000] + right[5001:], False),
        (right[:-1], True),
        (b"", True),
        (right + b"more", True),
        (b"!" + right, False),
        (right[:-1] + b"?more", False),
    ):
        target.write_bytes(damaged)
        assert patching.can_be_patched(target, len(right), blocks) is patched
        assert patching.fits_in_place(source, target) is patched
        assert not patching.can_be_patched(target, len(right), ()), "nothing is known of it"
    target.write_bytes(right[: BLOCK_SIZE + 5000] + right[BLOCK_SIZE + 5001 : BLOCK_SIZE + 9000])
    assert patching.can_be_patched(target, len(right), blocks), "its only whole block is right"
    assert not patching.fits_in_place(source, target), "but the rest is seen once it is computed"
    target.unlink()
    assert not patching.can_be_patched(target, len(right), blocks)
    assert not patching.fits_in_place(source, target)


@pytest.mark.usefixtures("full")
def test_interrupted_it_has_made_nothing_worse_and_goes_on(
    sick: Path, pristine_parity: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in range(20):
        overwrite(sick / SLICE, block * 50_000, b"rot!")
    right, damaged = (pristine_parity / SLICE).read_bytes(), (sick / SLICE).read_bytes()
    write, left = os.pwrite, list(range(7))

    def interrupted(fd: int, data: bytes, offset: int) -> int:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return write(fd, data, offset)

    monkeypatch.setattr(patching.os, "pwrite", interrupted)
    with pytest.raises(KeyboardInterrupt):
        repair(sick)
    between = (sick / SLICE).read_bytes()
    assert between not in {right, damaged}
    for start in range(0, len(right), PIECE):
        piece = between[start : start + PIECE]
        assert piece in {right[start : start + PIECE], damaged[start : start + PIECE]}
    monkeypatch.setattr(patching.os, "pwrite", write)
    repair(sick)
    assert same(sick, pristine_parity)


def test_what_cannot_be_read_is_written_even_if_it_would_be_zeros(
    tmp_path: Path, written: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable piece reads as zeros here, and it is its writing that makes a drive replace it."""
    source, target = tmp_path / "source", tmp_path / "target"
    for path in (source, target):
        path.write_bytes(bytes(4 * PIECE))
    read = patching.read_at

    def unreadable(fd: int, offset: int, size: int) -> tuple[bytes, int]:
        data, _ = read(fd, offset, size)
        return data, PIECE if offset <= PIECE < offset + size else 0

    monkeypatch.setattr(patching, "read_at", unreadable)
    patching.patch_file(source, target)
    assert written == [(PIECE, PIECE)]


@pytest.mark.usefixtures("full")
def test_a_medium_that_does_not_keep_what_is_written_in_place(
    sick: Path, repair: Repair, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(sick / SLICE, 12345, b"rot")
    monkeypatch.setattr(patching.os, "pwrite", lambda _fd, data, _offset: len(data))
    with pytest.raises(MediumFailed, match="something else than was written"):
        repair(sick)
    assert (sick / SLICE).exists()
