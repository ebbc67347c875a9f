"""What comes between an archive and its file while a piece is written: damage, rotation, a full disk."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ExportLogDamaged
from appliance.export.sinks import feed as feed_module
from appliance.export.sinks import file as file_module
from tests.unit.export.test_feed import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(feed_module, "_BATCH", 700)
    made = Desk(tmp_path)
    yield made
    made.archive.close()


def sequences(path: Path) -> list[int]:
    lines = [json.loads(each) for each in path.read_bytes().splitlines()]
    return [each["sequence"] for each in lines if "sequence" in each]


def test_what_stands_before_damage_within_a_piece_is_not_written_over_and_over(place: Desk) -> None:
    """The receiver asks again twenty times a second."""
    place.receive(0, 13)
    feed = place.feed(1 << 20)
    last = max((place.folder / "archive").iterdir())
    whole = last.read_bytes()
    last.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(3):
        with pytest.raises(ExportLogDamaged):
            feed.run()
    assert place.output.read_bytes() == b""
    last.write_bytes(whole)
    feed.run()
    assert place.sequences() == list(range(1, 37))


def rotating(place: Desk, monkeypatch: pytest.MonkeyPatch, faults: dict[int, BaseException]) -> None:
    """After the first write the file is rotated away; the n-th write fails."""
    count = iter(range(1, 99))

    def write(fd: int, data: memoryview) -> int:
        number = next(count)
        if number in faults:
            os.write(fd, bytes(data)[:100])
            raise faults[number]
        done = os.write(fd, data)
        if number == 1:
            place.output.rename(place.folder / "records.jsonl.1")
        return done

    monkeypatch.setattr(file_module, "os", SimpleNamespace(**{**vars(os), "write": write}))


class Killed(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), Killed()])
def test_what_is_rotated_away_within_a_piece_that_fails_is_written_once(
    place: Desk, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    """Neither what is in the old file nor what was in the new one already comes twice."""
    feed = place.feed(1 << 20)
    place.receive(0, 13)
    with monkeypatch.context() as patch:
        rotating(place, patch, {4: fault})
        with pytest.raises(type(fault)):
            feed.run()
    if isinstance(fault, Killed):
        feed = place.feed(1 << 20)
    feed.run()
    old = sequences(place.folder / "records.jsonl.1")
    assert old
    assert old + place.sequences() == list(range(1, 37))


def test_what_could_not_be_taken_back_is_taken_back_before_more_is_written(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = place.feed(1 << 20)
    place.receive(0, 13)

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(
            file_module,
            "os",
            SimpleNamespace(**{**vars(os), "ftruncate": fails, "fdatasync": fails}),
        )
        with pytest.raises(OSError, match="Input/output"):
            feed.run()
    feed.run()
    assert place.sequences() == list(range(1, 37))


def test_a_file_that_somebody_cut_meanwhile_is_not_filled_with_zeros(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there is gone; what comes is written behind what is there, and its mark says so."""
    place.receive(0, 6)
    feed = place.feed(1 << 20)
    feed.run()
    os.truncate(place.output, 0)
    place.receive(6, 9)
    with monkeypatch.context() as patch:
        rotating(place, patch, {1: OSError(28, "No space left on device")})
        with pytest.raises(ExportLogDamaged, match="shorter"):
            feed.run()
    assert place.output.read_bytes() == b""
    place.output.rename(place.folder / "records.jsonl.0")
    feed = place.feed(1 << 20)
    feed.run()
    os.truncate(place.output, 0)
    place.receive(9, 13)
    feed.run()
    place.feed()
    assert place.sequences() == list(range(25, 37))
