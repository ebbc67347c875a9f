"""Recipes that break a rule, each with its name; and the pure following of those that do not."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

import pytest

from appliance.bundle.patch import recipe
from appliance.bundle.patch.applying import Maker, check
from appliance.bundle.patch.packing import pack, unpack
from appliance.bundle.patch.recipe import (
    HEAD,
    MAX_LINE,
    SEGMENT,
    BaseFile,
    MadeFile,
    Part,
    Range,
    Taken,
    item_line,
    read_recipe,
)
from appliance.bundle.patch.whole import FolderFiles, WholeFile
from appliance.errors import DigestMismatch, RecipeInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

A, B = "a" * 64, "b" * 64
SOUND = [
    f"base {A} 100",
    f"base {B} 50",
    f"file {A} 90 manifest.json",
    "copy 0 10 80",
    "new 10",
    f"file {B} 4000 payload/model/tokens.json",
    "zstd 2000 30",
    "delta 2000 20 1 0 50",
    f"file {B} 7 payload/model/x",
    "take",
    f"file {B} 0 payload/model/y",
]
BLOCKS = 60


def lines_of(texts: Iterable[str]) -> list[bytes]:
    return [HEAD, *(text.encode() + b"\n" for text in texts)]


def changed(number: int, text: str) -> list[bytes]:
    return lines_of([*SOUND[:number], text, *SOUND[number + 1 :]])


def test_every_line_is_read_as_it_is_written() -> None:
    items = list(read_recipe(lines_of(SOUND), blocks=BLOCKS))
    assert [item_line(item).decode()[:-1] for item in items] == SOUND
    assert items[3] == Part(80, source=Range(0, 10, 80))
    assert items[7] == Part(2000, 20, Range(1, 0, 50), compressed=True)
    found = check(lines_of(SOUND), blocks=BLOCKS)
    assert (found.bases, found.taken) == ([BaseFile(A, 100), BaseFile(B, 50)], {"payload/model/x"})
    assert found.made["payload/model/y"] == BaseFile(B, 0)


#: Lines that break a rule, and what is said of them.
WRONG: Final = [
    ([], "the recipe is empty"),
    ([b"appliance recipe 2\n"], "no recipe of a kind"),
    ([HEAD], "used for nothing"),
    ([*lines_of(SOUND)[:-1], b"file"], "is not ended"),
    (lines_of([*SOUND, "x" * MAX_LINE]), "too long"),
    (changed(3, "copy 0 21 80"), "reads outside its base"),
    (changed(3, "copy 0 999999999999999 80"), "reads outside its base"),
    (changed(3, "copy 2 10 80"), "no such base file"),
    (changed(3, "copy 0 10 81"), "lacks 9 bytes|more than its file has room"),
    (changed(3, "copy 0 10 79"), "lacks 1 bytes"),
    (changed(3, "copy 0 10 0"), "more than its file has room"),
    (changed(3, "copy 0 010 80"), "says nothing"),
    (changed(3, "copy 0 -1 80"), "says nothing"),
    (changed(3, "copy 0 10  80"), "says nothing"),
    (changed(3, "copy 0 10 9999999999999999"), "says nothing"),
    (changed(4, "new 11"), "more than its file has room"),
    (changed(6, "zstd 2000 29"), "used for nothing"),
    (changed(6, "zstd 2000 31"), "than there are blocks"),
    (changed(6, "zstd 2000 0"), "a frame is larger"),
    (changed(6, "zstd 2000 2000"), "than there are blocks"),
    (changed(7, "delta 2000 20 1 0 0"), "prefix is shorter"),
    (changed(7, "delta 2000 20 1 0 1"), "prefix is shorter"),
    (changed(7, "delta 2000 20 1 0 7"), "prefix is shorter"),
    (changed(7, "delta 2000 20 1 1 50"), "reads outside its base"),
    (changed(0, f"base {B} 100"), "not in order of their digests"),
    (changed(1, f"base {A} 50"), "not in order of their digests"),
    (changed(4, f"base {'c' * 64} 1"), "base files come first"),
    (changed(5, f"file {B} 4000 manifest.json"), "not in order of their paths"),
    (changed(5, f"file {B} 4000 ../manifest.json"), "path"),
    (changed(5, f"file {B} 4000 /etc/passwd"), "path"),
    (changed(5, f"file {B} 4000 payload/model/t.slice-0001"), "not whole"),
    (changed(5, f"file {B.upper()} 4000 payload/model/tokens.json"), "says nothing"),
    (changed(9, "new 7"), "than there are blocks"),
    (lines_of([*SOUND, "take"]), "taken whole"),
    (lines_of(["take", *SOUND]), "taken whole"),
    (lines_of(["new 1", *SOUND]), "more than its file has room"),
    (lines_of([*SOUND[:9], "copy 0 0 1", "take", SOUND[10]]), "taken whole"),
    (lines_of([*SOUND[:9], "take", "copy 0 0 1", SOUND[10]]), "more than its file has room"),
]


@pytest.mark.parametrize(("lines", "said"), WRONG)
def test_a_recipe_that_breaks_a_rule_is_refused(lines: list[bytes], said: str) -> None:
    with pytest.raises(RecipeInvalid, match=said):
        check(lines, blocks=BLOCKS)


def test_files_that_cannot_lie_together_are_refused() -> None:
    files = [f"file {A} 0 payload/model/{name}" for name in ("X", "x")]
    with pytest.raises(RecipeInvalid, match="differ"):
        check(lines_of(files), blocks=0)
    files = [f"file {A} 0 payload/model", f"file {A} 0 payload/model/x"]
    with pytest.raises(RecipeInvalid):
        check(lines_of(files), blocks=0)


def test_more_files_or_lines_than_any_bundle_needs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "MAX_FILES", 2)
    with pytest.raises(RecipeInvalid, match="more files than any bundle has"):
        check(lines_of(SOUND), blocks=BLOCKS)
    monkeypatch.setattr(recipe, "MAX_BASES", 1)
    with pytest.raises(RecipeInvalid, match="not so many"):
        check(lines_of(SOUND), blocks=BLOCKS)
    monkeypatch.setattr(recipe, "MAX_LINES", 2)
    with pytest.raises(RecipeInvalid, match="one too many"):
        check(lines_of(SOUND[1:]), blocks=BLOCKS)


def test_a_frame_larger_than_a_segment_is_refused() -> None:
    size = SEGMENT + 1
    for line in (f"zstd {size} 30", f"delta {size} 30 0 0 9"):
        lines = [f"base {A} 99", f"file {A} {size} payload/model/x", line]
        with pytest.raises(RecipeInvalid, match="a frame is larger"):
            check(lines_of(lines), blocks=30)
    lines = [f"base {A} {size}", f"file {A} 100 payload/model/x", f"delta 100 30 0 0 {size}"]
    with pytest.raises(RecipeInvalid, match="prefix is shorter or larger"):
        check(lines_of(lines), blocks=30)


@pytest.mark.parametrize(
    "packed",
    [
        pack(bytes(SEGMENT)),  # a bomb: sixteen megabytes where a hundred bytes were said
        pack(bytes(99)),
        (pack(bytes(100)) or b"") + b"more",
        (pack(bytes(100)) or b"")[:-1],
        b"no frame at all",
    ],
)
def test_a_frame_gives_what_was_said_or_nothing(packed: bytes) -> None:
    with pytest.raises(RecipeInvalid, match="does not give what the recipe says"):
        unpack(packed, 100)


def test_a_frame_with_a_window_of_gigabytes_is_refused() -> None:
    header = bytes.fromhex("28b52ffd") + bytes([0x00, 21 << 3])  # RFC 8878: window of 2^31 bytes
    with pytest.raises(RecipeInvalid, match="does not give what the recipe says"):
        unpack(header + bytes(100), 100)


def test_a_frame_is_read_against_its_prefix() -> None:
    prefix = os.urandom(5000)
    data = prefix[:2000] + b"changed" + prefix[2000:]
    packed = pack(data, prefix)
    assert packed is not None
    assert len(packed) < 100
    assert unpack(packed, len(data), prefix) == data
    with pytest.raises(RecipeInvalid):
        unpack(packed, len(data))


class _Bytes:
    """Files in one folder, made by a recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.fd = folder, -1
        self.made: dict[str, bytes] = {}

    def file(self, name: str, data: bytes) -> WholeFile:
        (self.folder / name).write_bytes(data)
        return WholeFile(FolderFiles(), name, [(str(self.folder / name), len(data))])

    def begin(self, _: MadeFile) -> _Bytes:
        self.fd = os.open(self.folder / "out", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return self

    def place(self, offset: int, length: int) -> list[tuple[int, int, int]]:
        return [(self.fd, offset, length)]

    def done(self, file: MadeFile, taken: bool) -> None:
        assert not taken
        self.made[file.path] = (self.folder / "out").read_bytes()
        os.close(self.fd)


def test_parts_are_put_where_they_belong(tmp_path: Path) -> None:
    base, new = os.urandom(1000), os.urandom(500)
    files = _Bytes(tmp_path)
    target = base[100:300] + new + base[:50]
    digest = hashlib.sha256(base).hexdigest()
    items = [
        BaseFile(digest, 1000),
        MadeFile(A, 3, "a"),
        Part(3, 3),
        MadeFile(B, len(target), "b"),
        Part(200, source=Range(0, 100, 200)),
        Part(500, 500),
        Part(50, source=Range(0, 0, 50)),
    ]
    lines = [HEAD, *map(item_line, items)]
    for wanted, found in ((lambda _: True, {"a": b"abc", "b": target}), ("b".__eq__, {"b": target})):
        files.made.clear()
        with (
            files.file("blocks", b"abc" + new) as blocks,
            Maker(lambda _: files.file("base", base), blocks, wanted) as maker,
        ):
            maker.follow(lines, files.begin, files.done)
        assert files.made == found


def test_a_base_replaced_between_check_and_use_is_noticed(tmp_path: Path) -> None:
    files = _Bytes(tmp_path)
    items = [BaseFile(A, 1000), MadeFile(B, 10, "b"), Part(10, source=Range(0, 900, 10))]
    lines = [HEAD, *map(item_line, items)]
    check(lines, blocks=0)
    with (
        pytest.raises(DigestMismatch, match="another size than the recipe says"),
        Maker(lambda _: files.file("base", b"short"), None, lambda _: True) as maker,
    ):
        maker.follow(lines, files.begin, files.done)


def test_no_line_says_what_is_no_part() -> None:
    with pytest.raises(ValueError, match="no line says this"):
        item_line(Part(1, 1, Range(0, 0, 1)))
    assert item_line(Taken()) == b"take\n"
