"""The way of a result to the exporter: records it can take, and every reason why it takes none."""

from __future__ import annotations

import json
import os
import select
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from appliance.export.payload import MAX_RECORD as WHAT_THE_EXPORT_TAKES
from appliance.export.selection import read_selection
from appliance.export.sources.local import DatagramSource
from appliance.node.audit import handing_over
from appliance.node.audit.handing_over import MAX_RECORD, hand_over, make_record, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = {"site": "clinic", "host": "gpu-01", "number": 7, "exit_code": 8, "result": "drift"}


def drift(number: int, *, text: str = "x", breaks: int = 0) -> dict[str, Any]:
    told = [text] * breaks
    return {
        "subject": "files",
        "what": f"/{number}",
        "found": text,
        "wanted": text,
        "breaks": told,
        "do": "x",
    }


def record(*drifts: dict[str, Any]) -> dict[str, Any]:
    return make_record(1_800_000_000.25, {**HEAD, "drift": list(drifts)})


def test_a_record_is_no_longer_than_the_export_takes() -> None:
    assert MAX_RECORD == WHAT_THE_EXPORT_TAKES


def test_a_short_result_is_one_record_as_it_is() -> None:
    whole = record(drift(1))
    (part,) = parts_of(whole)
    assert json.loads(part) == whole
    assert whole["time"] == 1_800_000_000_250


def test_a_long_result_is_told_whole_in_parts_that_each_have_the_head() -> None:
    drifts = [drift(number, text="y" * 200) for number in range(1000)]
    parts = parts_of(record(*drifts))
    assert len(parts) > 5
    assert all(len(part) <= MAX_RECORD for part in parts)
    values = [json.loads(part) for part in parts]
    assert [each for value in values for each in value["fields"]["drift"]] == drifts
    for number, value in enumerate(values, 1):
        assert (value["stream"], value["time"]) == ("audit", 1_800_000_000_250)
        rest = {name: each for name, each in value["fields"].items() if name != "drift"}
        assert rest == {**HEAD, "part": number, "parts": len(parts)}


@pytest.mark.parametrize("character", ["x", "\udcff", "\N{GRINNING FACE}", '"'])
def test_a_difference_longer_than_a_record_says_how_much_is_missing(character: str) -> None:
    parts = parts_of(record(drift(1), drift(2, text=character * 70_000, breaks=9), drift(3)))
    assert all(len(part) <= MAX_RECORD for part in parts)
    told = [each for part in parts for each in json.loads(part)["fields"]["drift"]]
    assert [each["what"] for each in told] == ["/1", "/2", "/3"]
    assert told[0] == drift(1)
    assert told[1]["found"] == character * 400 + "… (69600 characters more)"
    assert told[1]["breaks"][4:] == ["… (5 more)"]


def test_what_the_export_may_let_out_can_be_said_of_it() -> None:
    rules = "format: 1\nstreams:\n  audit: {fields: [host, result]}\n"
    left = json.loads(read_selection(rules, "fields.yaml").apply(parts_of(record(drift(1)))[0]))
    assert left["fields"] == {"host": "gpu-01", "result": "drift"}
    assert left["left_out"] == 4


# --- the socket ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def exporter(path: Path) -> Iterator[DatagramSource]:
    source = DatagramSource(path)
    yield source
    source.close()


@contextmanager
def reading(source: DatagramSource, count: int) -> Iterator[list[bytes]]:
    """Takes so many records, as the exporter's loop does, and is done with that at the end of the block."""
    taken: list[bytes] = []

    def read() -> None:
        while len(taken) < count and select.select([source], [], [], 20)[0]:
            taken.extend(each.record for each in source.read())

    reader = threading.Thread(target=read)
    reader.start()
    yield taken
    reader.join(timeout=30)


def test_the_exporters_own_source_takes_every_part(exporter: DatagramSource, path: Path) -> None:
    """Also those for which there is no room in its queue yet."""
    parts = parts_of(record(*(drift(number, text="y" * 200) for number in range(2000))))
    assert len(parts) > 10
    with reading(exporter, len(parts)) as taken:
        assert hand_over(parts, path) == ""
    assert taken == parts


def test_without_an_exporter_it_says_so(path: Path) -> None:
    assert hand_over([b"x"], path) == f"there is no exporter ({path})"
    DatagramSource(path)._socket.close()  # killed: its socket is left
    assert hand_over([b"x"], path) == f"the exporter does not run ({path})"


def test_what_is_there_may_be_no_socket(path: Path) -> None:
    path.write_text("")
    assert hand_over([b"x"], path)
    path.unlink()
    os.mkfifo(path)
    assert hand_over([b"x"], path)


def test_a_queue_that_nobody_reads_is_not_waited_for_long(
    exporter: DatagramSource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handing_over, "SECONDS", 0.05)
    assert hand_over([bytes(MAX_RECORD)] * 1000, path) == f"the exporter took nothing for 0 s ({path})"
    assert exporter.read()
