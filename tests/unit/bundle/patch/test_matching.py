"""Stretches that are the same: exact to the byte, whatever was done to a file; and parts made of them."""

from __future__ import annotations

import hashlib
import random
import sys
from typing import TYPE_CHECKING

import pyfastcdc
import pytest

from appliance.bundle.patch import chunks, encoding, in_place, matching
from appliance.bundle.patch.chunks import Chunks, Places, cut, mean_size
from appliance.bundle.patch.encoding import Encoder
from appliance.bundle.patch.matching import Stretch, match
from appliance.bundle.patch.packing import unpack
from appliance.bundle.patch.recipe import Range
from appliance.bundle.patch.whole import FolderFiles, WholeFile
from appliance.errors import DigestMismatch, ToolMissing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.bundle.patch.chunks import Hashed

MEAN = 4096
RANDOM = random.Random(63)  # noqa: S311 - the same bytes each time
BASE = RANDOM.randbytes(400_000)
OTHER = RANDOM.randbytes(150_000)


def in_parts(folder: Path, name: str, data: bytes, *ends: int) -> WholeFile:
    """A file that lies in slices, up to each of ``ends`` and the rest."""
    parts = []
    for number, (start, end) in enumerate(zip((0, *ends), (*ends, len(data)), strict=True)):
        path = folder / f"{name}.{number}"
        path.write_bytes(data[start:end])
        parts.append((str(path), end - start))
    return WholeFile(FolderFiles(), name, parts)


def digests(*datas: bytes) -> list[str]:
    return [hashlib.sha256(data).hexdigest() for data in datas]


def stretches(folder: Path, target: bytes, *bases: bytes) -> list[Stretch]:
    opened = [in_parts(folder, f"base{n}", data, len(data) // 3) for n, data in enumerate(bases)]
    with in_parts(folder, "target", target, len(target) // 2) as file:
        for base in opened:
            base.__enter__()
        chunks = Chunks(opened, MEAN)
        for number, base in enumerate(opened):
            chunks.add(number, 0, base.size)
        found = list(match(file, chunks))
        for base in opened:
            base.__exit__()
    position = 0
    for each in found:
        assert each.start == position < each.end
        position = each.end
        if each.is_same and each.base is not None:
            same = bases[each.base][each.place : each.place + each.end - each.start]
            assert target[each.start : each.end] == same
    assert position == len(target)
    return found


def changed(found: Sequence[Stretch]) -> int:
    return sum(each.end - each.start for each in found if not each.is_same)


EDITS = {
    "nothing": (BASE, 0),
    "a byte": (BASE[:200_000] + bytes([BASE[200_000] ^ 1]) + BASE[200_001:], 1),
    "the first byte": (bytes([BASE[0] ^ 1]) + BASE[1:], 1),
    "the last byte": (BASE[:-1] + bytes([BASE[-1] ^ 1]), 1),
    "a tensor": (BASE[:100_000] + RANDOM.randbytes(50_000) + BASE[150_000:], 50_000),
    "a header longer by 3": (b"abc" + BASE, 3),
    "bytes inserted": (BASE[:250_000] + b"0123456789" + BASE[250_000:], 10),
    "bytes removed": (BASE[:250_000] + BASE[290_000:], 0),
    "halves exchanged": (BASE[200_000:] + BASE[:200_000], 0),
    "longer": (BASE + OTHER[:5_000], 5_000),
    "twice": (BASE * 2, 0),
    "two tensors exchanged": (
        BASE[:50_000] + BASE[300_000:340_000] + BASE[90_000:300_000] + BASE[50_000:90_000] + BASE[340_000:],
        0,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_the_same_is_found_to_the_byte(edit: str, tmp_path: Path) -> None:
    target, most = EDITS[edit]
    assert most <= changed(stretches(tmp_path, target, BASE)) + 1
    assert changed(stretches(tmp_path, target, BASE)) <= most + 4


def test_any_file_of_the_base_may_have_it(tmp_path: Path) -> None:
    found = stretches(tmp_path, OTHER[50_000:] + BASE[:100_000], BASE, OTHER)
    assert [(each.base, each.is_same) for each in found] == [(1, True), (0, True)]


def test_nothing_in_common_is_one_gap(tmp_path: Path) -> None:
    (gap,) = stretches(tmp_path, OTHER, BASE)
    assert not gap.is_same


@pytest.mark.parametrize("seed", range(12))
def test_edits_at_random_are_undone(seed: int, tmp_path: Path) -> None:
    edits = random.Random(seed)  # noqa: S311
    target = bytearray(BASE)
    for _ in range(6):
        start = edits.randrange(len(target))
        end = min(len(target), start + edits.randrange(30_000))
        target[start:end] = edits.choice([b"", edits.randbytes(edits.randrange(5_000)), BASE[1_000:40_000]])
    rebuild(tmp_path, bytes(target), BASE)


def rebuild(folder: Path, target: bytes, *bases: bytes) -> int:
    """Make parts, follow them; how many bytes travel."""
    blocks, hashes = bytearray(), hashlib.sha256()
    encoder = Encoder(blocks.extend, hashes.update)
    opened = [in_parts(folder, f"b{n}", data) for n, data in enumerate(bases)]
    for base in opened:
        base.__enter__()
    with in_parts(folder, "t", target) as file:
        parts = list(encoder.parts(file, opened, digests(*bases)))
    assert hashes.hexdigest() == hashlib.sha256(target).hexdigest()
    made, used = b"", 0
    for part in parts:
        data = bytes(blocks[used : used + part.packed])
        used += part.packed
        source = part.source
        old = bases[source.base][source.offset : source.offset + source.length] if source else b""
        made += unpack(data, part.length, old) if part.compressed else (data or old)
    assert made == target
    assert used == len(blocks)
    return used


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a few hundred thousand bytes are treated as those of gigabytes are."""
    monkeypatch.setattr(encoding, "SMALL", 1000)
    monkeypatch.setattr(encoding, "SEGMENT", 32 << 10)
    monkeypatch.setattr(chunks, "_SMALLEST", MEAN)
    monkeypatch.setattr(in_place, "STEP", 3000)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("edit", EDITS)
def test_long_files_travel_as_what_changed(edit: str, tmp_path: Path) -> None:
    target, most = EDITS[edit]
    assert rebuild(tmp_path, target, BASE) <= most * 1.01 + 300


@pytest.mark.usefixtures("small")
def test_what_lies_where_it_lay_is_not_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of neither file: a fine-tune of half a terabyte costs what comparing costs."""
    ranges: list[tuple[int, int]] = []

    def noted(file: WholeFile, mean: int, start: int, end: int, hashed: Hashed | None = None) -> object:
        ranges.append((start, end))
        return cut(file, mean, start, end, hashed)

    monkeypatch.setattr(matching, "cut", noted)
    monkeypatch.setattr(chunks, "cut", noted)
    rebuild(tmp_path, *EDITS["a tensor"][:1], BASE)
    assert ranges == [(99_000, 150_000)] * 2


@pytest.mark.usefixtures("small")
def test_scattered_bytes_are_packed_against_what_lies_there(tmp_path: Path) -> None:
    target = bytearray(BASE)
    for place in range(100_000, 200_000, 500):
        target[place] ^= 0xFF
    assert rebuild(tmp_path, bytes(target), BASE) < 4_000


@pytest.mark.usefixtures("small")
def test_without_a_base_a_file_is_its_own(tmp_path: Path) -> None:
    assert rebuild(tmp_path, OTHER) == len(OTHER)
    assert rebuild(tmp_path, bytes(200_000)) < 200
    assert rebuild(tmp_path, b"") == 0


#: What becomes of the first 100,000 bytes of ``BASE``: so many first and last bytes are copied.
ENDS = {
    "nothing in common": (OTHER[:100_000], [0, 0]),
    "a token more": (BASE[:99_990] + b", more: 1" + BASE[99_990:100_000], [99_990, 0]),
    "a header": (b"a new head" + BASE[10:100_000], [0, 99_990]),
    "a place in the middle": (BASE[:40_000] + b"other" + BASE[41_000:100_000], [40_000, 59_000]),
    "bytes taken out": (BASE[:40_000] + BASE[41_000:100_000], [40_000, 59_000]),
    "behind it": (BASE[:100_000] + b"more", [100_000, 0]),
    "before it": (b"more" + BASE[:100_000], [0, 100_000]),
    "the first half": (BASE[:50_000], [50_000, 0]),
    "twice": (BASE[:100_000] * 2, [100_000, 100_000]),
    "too few": (BASE[:999] + OTHER[:90_000] + BASE[99_001:100_000], [0, 0]),
}


@pytest.mark.parametrize("edit", ENDS)
def test_a_short_file_begins_and_ends_as_its_base_does(
    edit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame spends bytes on every block of what is the same, and wants the base to be at hand."""
    monkeypatch.setattr(encoding, "_END", 1000)
    target, (first, last) = ENDS[edit]
    base = BASE[:100_000]
    rebuild(tmp_path, target, base)
    encoder = Encoder(len, len)
    with in_parts(tmp_path, "b", base) as old, in_parts(tmp_path, "t", target) as file:
        parts = list(encoder.parts(file, [old], digests(base)))
    copies = [part.source for part in parts if not part.packed]
    wanted = [Range(0, 0, first), Range(0, len(base) - last, last)]
    assert copies == [each for each in wanted if each.length]


def test_what_is_the_same_to_either_side_is_copied_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of bytes that repeat, those which a file begins with are not what it ends with too."""
    monkeypatch.setattr(encoding, "_END", 1000)
    for target, base in ((bytes(5000), bytes(8000)), (bytes(8000), bytes(5000))):
        rebuild(tmp_path, target, base)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [500, 400_000])
def test_a_base_that_is_not_what_it_should_be_is_refused(size: int, tmp_path: Path) -> None:
    with in_parts(tmp_path, "b", BASE[:size]) as base, in_parts(tmp_path, "t", BASE[: size // 2]) as file:
        encoder = Encoder(len, len)
        with pytest.raises(DigestMismatch, match="b of the base is not what"):
            list(encoder.parts(file, [base], ["0" * 64]))


@pytest.mark.parametrize(
    ("size", "mean"), [(0, 64 << 10), (1 << 30, 128 << 10), (1 << 34, 1 << 20), (1 << 40, 1 << 20)]
)
def test_chunks_are_small_where_there_is_little(size: int, mean: int) -> None:
    assert mean_size(size) == mean


def test_the_table_grows_with_what_is_put_into_it() -> None:
    places, source = Places(1), random.Random(61)  # noqa: S311 - the same keys each time
    keys = [source.getrandbits(64) for _ in range(5000)]
    for number, key in enumerate(keys):
        places.add(key, number)
        places.add(key, number + 1)  # the first of its kind is as good
    assert [places.find(key) for key in keys] == list(range(5000))
    assert places.find(keys[0] ^ 1) is None


def test_a_file_cut_short_is_noticed(tmp_path: Path) -> None:
    with in_parts(tmp_path, "b", BASE) as base:
        (tmp_path / "b.0").write_bytes(BASE[:-1])
        with pytest.raises(DigestMismatch, match="became shorter"):
            base.read(0, len(BASE))
    with pytest.raises(DigestMismatch, match="another size"):
        base.__enter__()


def test_what_is_slow_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyfastcdc.py import FastCDC

    monkeypatch.setattr(pyfastcdc, "FastCDC", FastCDC)
    with in_parts(tmp_path, "b", BASE) as base, pytest.raises(ToolMissing, match="no compiled part"):
        next(iter(cut(base, MEAN, 0, base.size)))
    assert "pyfastcdc" in sys.modules


def test_parts_of_slices_are_read_together(tmp_path: Path) -> None:
    with in_parts(tmp_path, "b", BASE, 10, 11, 200_000) as file:
        assert file.read(5, 300_000) == BASE[5:300_005]
        assert [count for _, _, count in file.places(5, 300_000)] == [5, 1, 199_989, 100_005]
        assert file.read(7, 0) == b""
