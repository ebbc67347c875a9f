"""An audit log: every line once, through rotations and restarts, or a word that some are gone."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from appliance.export.sources.audit_line import audit_record
from appliance.export.sources.following import FileSource
from tests.unit.export.nodes import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.export.sources.source import Taken


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


@pytest.fixture
def opened(log: Path) -> Iterator[Callable[[str], FileSource]]:
    made = []

    def at(position: str = "", steady: Callable[[], float] = lambda: 0.0) -> FileSource:
        made.append(FileSource("audit", log, position, bytes, now=lambda: NOW, steady=steady))
        return made[-1]

    yield at
    for each in made:
        each.close()


def write(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(each + b"\n" for each in lines))


def rotate(log: Path) -> None:
    """As auditd does it: every file gets the next number."""
    for number in range(8, 0, -1):
        older = log.with_name(f"audit.log.{number}")
        if older.exists():
            older.rename(log.with_name(f"audit.log.{number + 1}"))
    log.rename(log.with_name("audit.log.1"))


def all_of(source: FileSource) -> list[Taken]:
    """Everything that is there; the last looks find nothing."""
    found: list[Taken] = []
    idle = 0
    while idle < 4:
        got = source.read()
        found += got
        idle = 0 if got else idle + 1
    return found


def text(found: list[Taken]) -> list[bytes]:
    return [json.loads(each.record)["withheld"].encode() if each.stated else each.record for each in found]


def test_whole_lines_come_as_they_are_written(log: Path, opened: Callable[..., FileSource]) -> None:
    source = opened()
    assert source.read() == []
    assert "no such file" in source.trouble
    write(log, b"one", b"", b"carriage\rreturn")
    assert text(all_of(source)) == [b"one", b"", b"carriage\rreturn"]
    assert source.trouble == ""
    with log.open("ab") as file:
        file.write(b"ha")
        file.flush()
        assert all_of(source) == []
        file.write(b"lf\n")
    assert text(all_of(source)) == [b"half"]


def test_a_rotated_file_is_read_to_its_end_and_then_the_next(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    source = opened()
    write(log, b"1")
    assert text(all_of(source)) == [b"1"]
    write(log, b"2")
    rotate(log)
    assert text(all_of(source)) == [b"2"]
    write(log.with_name("audit.log.1"), b"3")  # by whoever had it open still
    write(log, b"4")
    assert text(all_of(source)) == [b"3", b"4"]


def test_a_start_begins_with_the_oldest_file(log: Path, opened: Callable[..., FileSource]) -> None:
    for number in range(1, 13):
        write(log, b"%d" % number)
        if number in {3, 6, 9}:
            rotate(log)
    assert text(all_of(opened())) == [b"%d" % each for each in range(1, 13)]


@pytest.mark.parametrize("done", range(13))
@pytest.mark.parametrize("rotations", [0, 1, 3])
def test_a_restart_goes_on_after_every_line_and_any_rotation(
    log: Path, opened: Callable[..., FileSource], done: int, rotations: int
) -> None:
    for number in range(1, 13):
        write(log, b"%d" % number)
        if number == 4:
            rotate(log)
    before = all_of(opened())[:done]
    for number in range(rotations):
        rotate(log)
        write(log, b"%d" % (13 + number))
    after = all_of(opened(before[-1].position if before else ""))
    assert text(before + after) == [b"%d" % each for each in range(1, 13 + rotations)]


def test_a_file_that_is_gone_is_said_and_the_oldest_is_gone_on_with(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    write(log, b"1", b"2")
    kept = all_of(opened())[-1].position
    rotate(log)
    log.with_name("audit.log.1").rename(log.with_name("elsewhere"))
    write(log, b"3")
    rotate(log)
    write(log, b"4")
    found = all_of(opened(kept))
    assert text(found) == [b"lost-at-source", b"3", b"4"]
    assert json.loads(found[0].record) == {
        "stream": "audit",
        "time": NOW,
        "withheld": "lost-at-source",
        "count": None,
        "file": "gone",
    }


def test_an_inode_that_another_file_got_is_noticed(log: Path, opened: Callable[..., FileSource]) -> None:
    write(log, b"the first file")
    kept = all_of(opened())[-1].position
    log.write_bytes(b"another one with the same inode\n")
    assert text(all_of(opened(kept))) == [b"lost-at-source", b"another one with the same inode"]


def test_a_file_that_was_cut_in_its_place_is_said(log: Path, opened: Callable[..., FileSource]) -> None:
    """``copytruncate``: what was written between copying and cutting is in neither."""
    source = opened()
    write(log, b"one", b"two")
    assert len(all_of(source)) == 2
    os.truncate(log, 0)
    write(log, b"3")
    assert text(all_of(source)) == [b"lost-at-source", b"3"]


def dated(path: Path, second: int) -> None:
    os.utime(path, (second, second))


def test_files_that_came_while_nobody_read_are_read_and_what_is_gone_is_said(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    """The spool was full for hours: the open file was rotated out, and four others with it or not."""
    source = opened()
    write(log, b"1")
    assert text(all_of(source)) == [b"1"]
    write(log, b"2")
    dated(log, 1)
    for number in range(3, 9):
        rotate(log)
        write(log, b"%d" % number)
        dated(log, number)
    for number in (5, 6):
        log.with_name(f"audit.log.{number}").unlink()
    assert text(all_of(source)) == [b"2", b"lost-at-source", b"4", b"5", b"6", b"7", b"8"]


def test_files_are_told_apart_whatever_the_clock_says(log: Path, opened: Callable[..., FileSource]) -> None:
    """It went back: what came after ours is dated before it."""
    source = opened()
    write(log, b"1")
    dated(log, 100)
    assert text(all_of(source)) == [b"1"]
    log.unlink()
    for number in (2, 3):
        write(log, b"%d" % number)
        dated(log, number)
        if number < 3:
            rotate(log)
    assert text(all_of(source)) == [b"lost-at-source", b"2", b"3"]


def test_older_files_are_not_read_again_when_ours_is_gone(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    for number in (1, 2, 3):
        write(log, b"%d" % number)
        dated(log, 7)  # within one tick of the clock
        if number < 3:
            rotate(log)
    source = opened()
    assert text(all_of(source)) == [b"1", b"2", b"3"]
    log.rename(log.with_name("audit.log.gz"))
    write(log, b"4")
    dated(log, 7)
    rotate(log)
    write(log, b"5")
    dated(log, 7)
    assert text(all_of(source)) == [b"lost-at-source", b"4", b"5"]


@pytest.mark.parametrize(("seconds", "words"), [(4.0, []), (6.0, [b"lost-at-source"])])
def test_a_file_that_went_while_nobody_looked_may_have_had_followers(
    log: Path, opened: Callable[..., FileSource], seconds: float, words: list[bytes]
) -> None:
    clock = [0.0]
    source = opened("", lambda: clock[0])
    write(log, b"1")
    assert text(all_of(source)) == [b"1"]
    log.unlink()
    write(log, b"3")
    clock[0] = seconds
    assert text(all_of(source)) == [*words, b"3"]


def test_a_file_that_was_cut_and_has_grown_past_that_is_said(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    source = opened()
    write(log, b"one")
    assert len(all_of(source)) == 1
    with log.open("r+b") as file:  # the same inode
        file.truncate()
        file.write(b"much longer than it was\n")
    assert text(all_of(source)) == [b"lost-at-source", b"much longer than it was"]


def test_a_file_that_was_renamed_between_looking_and_opening_is_looked_for_again(
    log: Path, opened: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened()
    write(log, b"1")
    assert text(all_of(source)) == [b"1"]
    rotate(log)
    write(log, b"2")
    real = FileSource._opened

    def late(path: Path) -> int:
        monkeypatch.setattr(FileSource, "_opened", staticmethod(real))
        rotate(log)
        write(log, b"3")
        return real(path)

    monkeypatch.setattr(FileSource, "_opened", staticmethod(late))
    assert text(all_of(source)) == [b"2", b"3"]


def test_a_file_that_can_be_read_again_is_no_trouble_any_more(
    log: Path, opened: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened()
    write(log, b"1")
    assert text(all_of(source)) == [b"1"]

    def refuse(_: FileSource) -> list[Taken]:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(FileSource, "_lines", refuse)
        assert source.read() == []
        assert "Input/output error" in source.trouble
    source.read()
    assert source.trouble == ""


def test_a_file_that_was_packed_away_after_it_was_read_costs_nothing(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    source = opened()
    write(log, b"one")
    assert len(all_of(source)) == 1
    log.rename(log.with_name("audit.log.1.gz"))
    write(log, b"two")
    assert text(all_of(source)) == [b"two"]


def test_while_there_is_no_new_file_no_old_one_is_read_again(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    write(log, b"1")
    rotate(log)
    write(log, b"2")
    source = opened()
    assert text(all_of(source)) == [b"1", b"2"]
    log.unlink()
    assert all_of(source) == []
    write(log, b"3")
    assert text(all_of(source)) == [b"3"]


def test_a_line_without_an_end_is_a_record_once_its_file_will_not_grow(
    log: Path, opened: Callable[..., FileSource]
) -> None:
    source = opened()
    log.write_bytes(b"one\ncut off")
    assert text(all_of(source)) == [b"one"]
    rotate(log)
    write(log, b"two")
    assert text(all_of(source)) == [b"cut off", b"two"]


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_long_line_is_a_record_or_a_word(
    log: Path, opened: Callable[..., FileSource], end: bytes
) -> None:
    source = opened()
    log.write_bytes(b"x" * 600_000 + b"\n" + b"y" * 1_100_000 + end)
    rotate(log)
    write(log, b"after")
    assert [len(each) for each in text(all_of(source))] == [600_000, len("too-long"), len("after")]


def test_a_link_is_not_followed(log: Path, opened: Callable[..., FileSource], tmp_path: Path) -> None:
    write(tmp_path / "secret", b"secret")
    log.symlink_to(tmp_path / "secret")
    source = opened()
    assert source.read() == []
    assert source.trouble


SYSCALL = (
    b'type=SYSCALL msg=audit(1364481363.243:24287): arch=c000003e syscall=2 success=no comm="cat" '
    b'key="sshd config" a=1 a=2 a=3\x1dARCH=x86_64 SYSCALL=open'
)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (
            SYSCALL,
            {
                "stream": "audit-log",
                "time": 1364481363243,
                "fields": {
                    "type": "SYSCALL",
                    "serial": "24287",
                    "arch": "c000003e",
                    "syscall": "2",
                    "success": "no",
                    "comm": "cat",
                    "key": "sshd config",
                    "a": ["1", "2", "3"],
                    "ARCH": "x86_64",
                    "SYSCALL": "open",
                },
            },
        ),
        (
            b"type=USER_CMD msg=audit(1.000:7): pid=1 msg='op=x res=success'",
            {
                "stream": "audit-log",
                "time": 1000,
                "fields": {"type": "USER_CMD", "serial": "7", "pid": "1", "msg": "op=x res=success"},
            },
        ),
        (b"no record \xff", {"stream": "audit-log", "fields": {"line": "no record \\xff"}}),
    ],
    ids=["syscall", "user", "none"],
)
def test_a_line_of_the_audit_log_is_a_record_of_fields(line: bytes, values: dict[str, Any]) -> None:
    assert json.loads(audit_record(line)) == values
