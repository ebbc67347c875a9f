"""Nothing of a process that holds secrets gets to a disk: in a process of its own, which is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from appliance.cli.app import app
from appliance.disk.memory import has_swap

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
import ctypes, json, resource, subprocess
from appliance.disk.memory import protect_memory
before = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
locked = protect_memory()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
core = subprocess.run(["sh", "-c", "ulimit -H -c"], stdout=subprocess.PIPE, text=True).stdout
print(json.dumps({"before": before, "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), "locked": locked,
                  "pages": int(status["VmLck"].split()[0]), "started": core.strip(),
                  "core": resource.getrlimit(resource.RLIMIT_CORE)}))
"""


def test_neither_core_dumps_nor_swap() -> None:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, check=True)
    said = json.loads(done.stdout)
    assert said["before"] == 1, "as it was, so that the test sees the change"
    assert (said["dumpable"], said["core"]) == (0, [0, 0])
    assert said["started"] == "0", "what it starts has no core dump either"
    assert (said["pages"] > 0) is said["locked"]


@pytest.mark.parametrize(
    ("text", "swap"),
    [("Filename Type Size Used Priority\n", False), ("Filename …\n/dev/sda2 partition 1 0 -2\n", True)],
)
def test_whether_there_is_swap(tmp_path: Path, text: str, swap: bool) -> None:
    (tmp_path / "swaps").write_text(text)
    assert has_swap(tmp_path / "swaps") is swap
    assert has_swap(tmp_path / "none"), "where it cannot be known"


@pytest.mark.parametrize(("locked", "swap", "said"), [(False, True, True), (False, False, False)])
def test_memory_that_may_be_swapped_is_said(
    monkeypatch: pytest.MonkeyPatch, locked: bool, swap: bool, said: bool
) -> None:
    monkeypatch.setattr("appliance.disk.memory.protect_memory", lambda: locked)
    monkeypatch.setattr("appliance.disk.memory.has_swap", lambda: swap)
    done = CliRunner().invoke(app, ["disk", "escrow", "check", "/there/is/none"])
    assert ("may be swapped to a disk" in done.stderr) is said
