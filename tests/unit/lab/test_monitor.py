"""QMP as QEMU speaks it: answers and events in any order, refusals, and an end in the middle."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import LabFailed
from appliance.lab.monitor import Monitor, ask, listen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GREETING = {"QMP": {"version": {}, "capabilities": []}}
RESET = {"event": "RESET", "data": {"guest": True}, "timestamp": {"seconds": 1, "microseconds": 2}}
RESUME = {"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 2}}


def lines(*values: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\r\n" for value in values)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_events_between_the_answers_are_kept_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(lines(GREETING, RESUME, {"return": {}}, RESET, {"return": {"running": True}}))
    monitor = Monitor(ours)
    assert monitor.call("query-status") == {"running": True}
    assert monitor.waiting
    assert [event["event"] for event in monitor.events()] == ["RESUME", "RESET"]
    assert not monitor.waiting
    asked = [json.loads(line) for line in theirs.recv(4096).splitlines()]
    assert [question["execute"] for question in asked] == ["qmp_capabilities", "query-status"]


def test_a_line_that_comes_in_pieces_is_one_event(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(lines(GREETING, {"return": {}}))
    monitor = Monitor(ours)
    text = lines(RESET, RESUME)
    theirs.sendall(text[:10])
    rest = threading.Timer(0.05, theirs.sendall, [text[10:]])
    rest.start()
    assert [event["event"] for event in monitor.events()] == ["RESET", "RESUME"]
    rest.join()


def test_a_refusal_is_said_in_qemus_words(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    theirs.sendall(lines(GREETING, {"return": {}}, {"error": {"class": "x", "desc": "no such port"}}))
    with pytest.raises(LabFailed, match="refused device_add") as caught:
        Monitor(ours).call("device_add", bus="port9")
    assert caught.value.found == "no such port"


@pytest.mark.parametrize("said", [b"", lines(GREETING), lines(GREETING) + b'{"ret'])
def test_a_machine_that_ends_is_named_as_that(
    ends: tuple[socket.socket, socket.socket], said: bytes
) -> None:
    ours, theirs = ends
    theirs.sendall(said)
    theirs.close()
    with pytest.raises(LabFailed, match="monitor does not answer"):
        Monitor(ours)


def test_a_machine_is_asked_in_a_folder_however_long_its_path_is(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with pytest.raises(LabFailed, match="monitor does not answer"):
        ask(folder, "quit")

    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(lines(GREETING, {"return": {}}, {"return": "done"}))
            while connection.recv(4096):
                pass

    with listen(folder) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        assert ask(folder, "system_reset") == "done"
        thread.join()
    with listen(folder):
        pass  # what a killed machine left is in nobody's way
