"""Measuring programs side by side: CPU and wall time, peak memory, and who else was busy meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The program as it is installed beside this Python.
PROGRAM = str(Path(sys.executable).with_name("appliance"))


@dataclass(frozen=True)
class Cost:
    """What one run of a program took: CPU (user + system) and wall seconds, peak resident bytes.

    ``others`` is the CPU seconds that everything else on the machine used per second of the run: a
    wall time says something about a program only where this is close to none.
    """

    cpu: float
    wall: float
    memory: int
    others: float


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the ``appliance`` program under test."""
    return PROGRAM


@pytest.fixture(scope="session")
def measure() -> Callable[[Sequence[str]], Cost]:
    """Run a command that must succeed, and say what it cost."""

    def run(command: Sequence[str]) -> Cost:
        started, busy = time.perf_counter(), _busy_seconds()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, command
        cpu = usage.ru_utime + usage.ru_stime
        others = (_busy_seconds() - busy - cpu) / wall
        return Cost(cpu, wall, usage.ru_maxrss * 1024, others)

    return run


def _busy_seconds() -> float:
    """CPU seconds that were not idle, of all cores since boot (proc_stat(5)), stolen time included."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
