"""Waiting for keepers: ready, ended, gone or too late."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from appliance.errors import LabFailed
from appliance.lab.machines import Started, wait_ready
from appliance.lab.plan import Node

if TYPE_CHECKING:
    from pathlib import Path


def started(tmp_path: Path, text: bytes, *, close: bool) -> tuple[Started, int]:
    reading, writing = os.pipe()
    os.write(writing, text)
    if close:
        os.close(writing)
    (tmp_path / "console.log").write_text("one\nKernel panic\n")
    return Started(Node("ward-01", 7, 11), tmp_path, reading), writing


def test_a_node_is_ready_when_its_keeper_says_so(tmp_path: Path) -> None:
    one, writing = started(tmp_path, b'{"event": "leader", "pid": 7}\n{"event": "ready"}\n', close=False)
    wait_ready([one], deadline=time.monotonic() + 10)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one.reports)


@pytest.mark.parametrize(
    ("text", "close", "what"),
    [
        (b'{"event": "leader", "pid": 7}\n{"event": "ended", "code": 1}\n', True, "exit code 1"),
        (b'{"event": "leader", "pid": 7}\n', True, "its keeper ended"),
        (b"", True, "its keeper ended"),
        (b"", False, "not ready in time"),
        (b'{"event": "ready"', False, "not ready in time"),
    ],
    ids=["ended", "lost", "never-began", "silent", "half-a-line"],
)
def test_a_node_that_does_not_boot_shows_its_console(
    tmp_path: Path, text: bytes, close: bool, what: str
) -> None:
    one, writing = started(tmp_path, text, close=close)
    with pytest.raises(LabFailed, match=what) as caught:
        wait_ready([one], deadline=time.monotonic() + 0.1)
    assert "Kernel panic" in (caught.value.found or "")
    assert caught.value.exit_code == 7
    if not close:
        os.close(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one.reports)
