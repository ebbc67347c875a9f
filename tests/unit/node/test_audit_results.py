"""Results on the node: numbered, the last of them kept, none given up without a word."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.bundle import durable
from appliance.errors import SpaceExhausted
from appliance.node.audit import results as module
from appliance.node.audit.results import Results

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def names(results: Results) -> list[str]:
    return sorted(path.name for path in results.folder.iterdir())


def test_numbers_ascend_from_one_and_go_on_whatever_became_of_the_last(results: Results) -> None:
    assert results.next_number() == 1
    results.keep(1, {"a": 1})
    assert results.next_number() == 2
    results.taken(results.waiting()[0])
    assert results.next_number() == 2
    (results.folder / ".0000000009.waiting.json.ab12cd34").write_text("half")
    (results.folder / "0000000009.txt").write_text("something else")
    assert results.next_number() == 2


def test_what_waits_comes_the_oldest_first_and_stays_when_it_was_taken(results: Results) -> None:
    for number in (1, 2, 10):
        results.keep(number, {"number": number})
    assert [json.loads(path.read_bytes())["number"] for path in results.waiting()] == [1, 2, 10]
    results.taken(results.waiting()[0])
    assert [path.name for path in results.waiting()] == [
        "0000000002.waiting.json",
        "0000000010.waiting.json",
    ]
    assert json.loads((results.folder / "0000000001.json").read_bytes()) == {"number": 1}


def test_more_than_the_last_are_dropped_and_those_that_waited_are_named(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    assert [results.keep(number, {}) for number in (1, 2)] == [[], []]
    results.taken(results.waiting()[0])
    assert results.keep(3, {}) == []
    assert results.keep(4, {}) == [], "the first was taken"
    assert results.keep(5, {}) == [2]
    assert names(results) == [f"000000000{number}.waiting.json" for number in (3, 4, 5)]


def test_they_take_no_more_room_than_they_may_but_the_newest_stays(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    long: dict[str, Any] = {"text": "x" * 400}
    assert [results.keep(number, long) for number in (1, 2, 3)] == [[], [], [1]]
    assert results.keep(4, {"text": "x" * 2000}) == [2, 3]
    assert names(results) == ["0000000004.waiting.json"]


def test_on_a_full_disk_nothing_is_dropped(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    results.keep(1, {})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write_file", full)
    with pytest.raises(SpaceExhausted):
        results.keep(2, {})
    assert names(results) == ["0000000001.waiting.json"]
