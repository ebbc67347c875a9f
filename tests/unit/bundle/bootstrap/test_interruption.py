"""bootstrap.sh: interrupted, killed, or itself cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.bootstrap import bootstrap_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.bundle.bootstrap.desk import Desk


@pytest.fixture
def held(desk: Desk, medium: Path) -> subprocess.Popen[str]:
    """A run that has begun to set up, and waits."""
    pipe = desk.folder / "held"
    os.mkfifo(pipe)
    hold = f'case "$*" in *"venv --without-pip"*) echo >"{pipe}"; read -r _ <"{pipe}";; esac'
    desk.instead("python3", f'{hold}\nexec "{sys.executable}" "$@"')
    running = subprocess.Popen(
        desk.command(medium / "bootstrap.sh", *desk.paper, "--to", str(desk.target)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=desk.settings(),
        start_new_session=True,
    )
    assert pipe.read_text() == "\n"  # until it writes
    assert (desk.target / ".unfinished").exists()
    return running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing(
    held: subprocess.Popen[str], desk: Desk, number: signal.Signals
) -> None:
    os.killpg(held.pid, number)
    output, told = held.communicate(timeout=30)
    assert (held.returncode, output) == (128 + number, "")
    assert told.endswith("interrupted; nothing was kept\n")
    assert not desk.target.exists()


def test_a_killed_run_is_never_taken_for_a_whole_one(
    held: subprocess.Popen[str], desk: Desk, medium: Path
) -> None:
    os.killpg(held.pid, signal.SIGKILL)
    held.communicate(timeout=30)
    code, output, told = desk.set_up(medium)
    assert (code, output) == (2, "")
    assert f"{desk.target} is unfinished" in told
    assert f"rm -r {desk.target}\n" in told


def test_a_script_that_is_cut_off_does_nothing(desk: Desk, medium: Path) -> None:
    """At whatever line the stick was pulled."""
    lines = bootstrap_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        (medium / "bootstrap.sh").write_bytes(b"".join(lines[:count]))
        _, output, told = desk.set_up(medium)
        assert output == ""
        assert "good signature" not in told
        assert not desk.target.exists()
