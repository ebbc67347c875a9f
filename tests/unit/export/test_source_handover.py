"""A folder: one file, one record, removed once it is on the spool's disk, and never taken twice."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import Usage
from appliance.export.sources import handover
from appliance.export.sources.handover import FolderSource
from appliance.export.sources.opening import Wanted, parse_folders
from appliance.export.sources.opening import opened as open_sources
from tests.unit.export.nodes import NOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.export.sources.source import Taken


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checks").mkdir()
    return tmp_path / "checks"


def put(folder: Path, name: str, data: bytes, second: int = 1) -> None:
    """As programs should: written beside it, then renamed in."""
    partial = folder / f".{name}"
    partial.write_bytes(data)
    os.utime(partial, (second, second))
    partial.rename(folder / name)


def opened(
    folder: Path, position: str = "", select: Callable[[bytes], bytes] | None = None
) -> FolderSource:
    return FolderSource("checks", folder, position, select=select, now=lambda: NOW)


def values(taken: Taken) -> dict[str, Any]:
    found = json.loads(taken.record)
    assert isinstance(found, dict)
    return found


def test_a_file_is_a_record_and_stays_until_it_is_on_the_disk(folder: Path) -> None:
    put(folder, "audit.json", b'{"drift": 0, "node": "gpu-01"}', second=5)
    source = opened(folder)
    (taken,) = source.read()
    assert values(taken) == {
        "stream": "checks",
        "time": 5000,
        "fields": {"_FILE": "audit.json", "drift": 0, "node": "gpu-01"},
    }
    assert source.read() == []
    assert (folder / "audit.json").exists()
    source.settled(taken.position)
    assert list(folder.iterdir()) == []


def test_files_come_in_the_order_they_were_made_some_at_a_time(folder: Path) -> None:
    for number in range(40):
        put(folder, f"{97 * number % 40}", b"%d" % number, second=number)
    source, found = opened(folder), []
    while got := source.read():
        assert len(got) <= 16
        found += got
        source.settled(got[-1].position)
    assert [values(each)["fields"]["value"] for each in found] == list(range(40))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("settled", [0, 1, 3])
def test_after_a_cut_what_is_in_the_spool_is_removed_and_not_taken_again(
    folder: Path, settled: int
) -> None:
    for number in range(3):
        put(folder, str(number), b"%d" % number, second=number)
    found = opened(folder).read()
    again = opened(folder, found[settled - 1].position if settled else "")
    assert [values(each)["fields"]["value"] for each in again.read()] == [0, 1, 2][settled:]


def test_a_file_put_in_the_place_of_one_that_was_taken_is_a_record_of_its_own(folder: Path) -> None:
    put(folder, "a", b"1", second=1)
    source = opened(folder)
    (first,) = source.read()
    put(folder, "a", b"2", second=2)
    source.settled(first.position)
    (second,) = source.read()
    assert values(second)["fields"]["value"] == 2


def test_what_is_not_whole_or_no_file_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / ".hidden").write_text("1")
    (folder / "a.partial").write_text("1")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "pipe")
    before = sorted(folder.iterdir())
    source = opened(folder)
    assert source.read() == []
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("data", [b"plain \xff text\n", b"", b'{"a":1,"a":2}', b"[" * 50_000])
def test_what_is_no_json_is_text(folder: Path, data: bytes) -> None:
    put(folder, "a", data)
    (taken,) = opened(folder).read()
    assert values(taken)["fields"] == {"_FILE": "a", "text": data.decode("utf-8", "backslashreplace")}


def test_a_name_that_is_no_text_and_a_field_of_ours_are_told_apart(folder: Path) -> None:
    put(folder, os.fsdecode(b"\xff"), b'{"_FILE": "forged"}')
    (taken,) = opened(folder).read()
    assert values(taken)["fields"] == {"_FILE": "\\xff"}


def test_a_file_that_is_too_long_is_a_word_and_is_kept(folder: Path) -> None:
    data = bytes(range(256)) * 4100
    put(folder, "core", data)
    source = opened(folder)
    (taken,) = source.read()
    assert taken.stated
    assert values(taken) == {
        "stream": "checks",
        "time": NOW,
        "withheld": "too-long",
        "file": "core",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    source.settled(taken.position)
    assert [each.name for each in folder.iterdir()] == ["core.too-long"]
    assert source.read() == []


@pytest.mark.parametrize("cut", [False, True])
def test_a_file_whose_record_would_be_dropped_is_a_word_and_is_kept(folder: Path, cut: bool) -> None:
    """Nothing of it left; after a cut in between, too."""
    put(folder, "log", b"x" * 70_000)
    source = opened(folder)
    (taken,) = source.read()
    assert (values(taken)["withheld"], values(taken)["bytes"]) == ("too-long", 70_000)
    assert taken.stated
    if cut:
        opened(folder, taken.position)
    else:
        source.settled(taken.position)
    assert [each.name for each in folder.iterdir()] == ["log.too-long"]


def test_what_is_too_long_is_judged_by_what_leaves(folder: Path) -> None:
    put(folder, "log", b"x" * 70_000)
    (taken,) = opened(folder, select=lambda _: b"{}").read()
    assert not taken.stated
    (taken,) = opened(folder, select=lambda _: bytes(70_000)).read()
    assert taken.stated


def test_a_folder_that_is_asked_for_knows_what_leaves(folder: Path) -> None:
    put(folder, "log", b"x" * 70_000)
    with ExitStack() as until:
        (source,) = open_sources(Wanted(folders={"checks": folder}), {}, until, lambda _: b"{}")
        (taken,) = source.read()
    assert not taken.stated


def test_a_file_that_is_kept_takes_no_other_one_s_name(folder: Path) -> None:
    for second in (1, 2, 3):
        put(folder, "log", b"%d" % second * 70_000, second)
        source = opened(folder)
        (taken,) = source.read()
        source.settled(taken.position)
    kept = sorted(folder.iterdir())
    assert [each.name for each in kept] == ["log.1.too-long", "log.2.too-long", "log.too-long"]
    assert sorted(each.read_bytes()[:1] for each in kept) == [b"1", b"2", b"3"]


def test_what_is_removed_is_gone_for_good_before_the_next_position(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a", b"1")
    source = opened(folder)
    (taken,) = source.read()
    there: list[list[str]] = []
    monkeypatch.setattr(
        handover, "sync_folder", lambda path: there.append([each.name for each in path.iterdir()])
    )
    source.settled(taken.position)
    assert there == [[]]


def test_a_file_that_cannot_be_read_is_said_and_keeps_no_other_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a", b"1", second=1)
    put(folder, "b", b"2", second=2)
    real = os.open

    def refuse(path: Path, flags: int) -> int:
        if path == folder / "a":
            raise PermissionError(13, "Permission denied")
        return real(path, flags)

    source = opened(folder)
    with monkeypatch.context() as refused:
        refused.setattr(os, "open", refuse)
        (taken,) = source.read()
        assert values(taken)["fields"]["value"] == 2
        assert "a: Permission denied" in source.trouble
    source.settled(taken.position)
    (taken,) = source.read()
    assert (values(taken)["fields"]["value"], source.trouble) == (1, "")


def test_a_file_that_cannot_be_removed_is_said_and_taken_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a", b"1")
    source = opened(folder)
    (taken,) = source.read()

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    source.settled(taken.position)
    assert "Permission denied" in source.trouble
    assert source.read() == []


def test_a_folder_that_goes_away_is_said(folder: Path) -> None:
    source = opened(folder)
    folder.rmdir()
    assert source.read() == []
    assert source.trouble


def test_folders_are_read_with_their_names(folder: Path, tmp_path: Path) -> None:
    assert parse_folders([f"checks={folder}", f"more={tmp_path}"], Path) == {
        "checks": folder,
        "more": tmp_path,
    }


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "={}",
        "Checks={}",
        "journal={}",
        "metrics={}",
        "audit={}",
        "audit-log={}",
        "export={}",
        "a={}/missing",
        "a=",
    ],
)
def test_what_is_no_folder_of_records_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(Usage):
        parse_folders([text.format(folder)], Path)
    with pytest.raises(Usage):
        parse_folders([f"a={folder}", f"a={folder}"], Path)
