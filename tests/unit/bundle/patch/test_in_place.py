"""Two files side by side: where they are the same, and the digests of both, whoever is slower."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.patch import in_place
from appliance.bundle.patch.in_place import InPlace, compare
from appliance.bundle.patch.whole import FolderFiles, WholeFile
from appliance.errors import DigestMismatch

if TYPE_CHECKING:
    from pathlib import Path

BASE = random.Random(90).randbytes(100_000)  # noqa: S311 - the same bytes each time


@pytest.fixture(autouse=True)
def _short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "STEP", 1000)


def opened(folder: Path, name: str, data: bytes) -> WholeFile:
    (folder / name).write_bytes(data)
    return WholeFile(FolderFiles(), name, [(str(folder / name), len(data))])


@pytest.mark.parametrize(
    ("data", "ranges"),
    [
        (BASE, [(0, 100_000)]),
        (BASE[:500], []),
        (BASE[:1000], [(0, 1000)]),
        (BASE + b"more", [(0, 100_000)]),
        (BASE[:3100] + b"x" * 50 + BASE[3150:], [(0, 3000), (4000, 100_000)]),
        (b"x" + BASE[:-1], []),
        (b"x" * 2000 + BASE[2000:2500], []),
        (b"", []),
    ],
    ids=["all", "a part of a step", "one", "longer", "a gap", "moved", "shorter", "nothing"],
)
def test_ranges_are_found_and_both_are_hashed(
    data: bytes, ranges: list[tuple[int, int]], tmp_path: Path
) -> None:
    digest = hashlib.sha256()
    with opened(tmp_path, "file", data) as file, opened(tmp_path, "base", BASE) as base:
        found = compare(file, base, hashlib.sha256(BASE).hexdigest(), digest.update)
    assert digest.hexdigest() == hashlib.sha256(data).hexdigest()
    assert [*found] == ranges
    assert found.size == sum(end - start for start, end in ranges)


@pytest.mark.parametrize("place", [0, 50_000, 99_999])
def test_a_base_that_is_another_is_refused(place: int, tmp_path: Path) -> None:
    data = BASE[:place] + bytes([BASE[place] ^ 1]) + BASE[place + 1 :]
    with (
        opened(tmp_path, "file", data) as file,
        opened(tmp_path, "base", data) as base,
        pytest.raises(DigestMismatch, match="base of the base is not what its bundle says"),
    ):
        compare(file, base, hashlib.sha256(BASE).hexdigest(), len)


def test_what_cannot_be_hashed_ends_it(tmp_path: Path) -> None:
    def fails(_: object) -> None:
        raise MemoryError

    with (
        opened(tmp_path, "file", BASE) as file,
        opened(tmp_path, "base", BASE) as base,
        pytest.raises(MemoryError),
    ):
        compare(file, base, hashlib.sha256(BASE).hexdigest(), fails)


def test_no_more_is_in_memory_than_a_thread_may_be_behind(tmp_path: Path) -> None:
    """Of a terabyte, too."""
    buffers = set()
    with opened(tmp_path, "file", BASE) as file, opened(tmp_path, "base", BASE) as base:
        compare(file, base, hashlib.sha256(BASE).hexdigest(), lambda data: buffers.add(id(data)))
    assert 0 < len(buffers) <= in_place._BEHIND


def test_gaps_are_what_lies_between() -> None:
    found = InPlace()
    for start, end in ((0, 10), (10, 20), (30, 40)):
        found.add(start, end)
    assert [*found] == [(0, 20), (30, 40)]
    assert [*found.others(50)] == [(20, 30), (40, 50)]
    assert [*found.others(40)] == [(20, 30)]
    assert [*InPlace().others(7)] == [(0, 7)]


@pytest.mark.parametrize("how", ["written to", "replaced"])
def test_what_is_changed_while_it_is_read_is_refused(how: str, tmp_path: Path) -> None:
    """With its date put back, as whoever hides something would."""
    with opened(tmp_path, "file", BASE) as file:
        file.require_unchanged()
        place = tmp_path / "file"
        times = place.stat()
        if how == "replaced":
            file._close()
            place.rename(tmp_path / "before")
        place.write_bytes(BASE[:-1] + b"x")
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(DigestMismatch, match="file was changed while it was read"):
            file.require_unchanged()
