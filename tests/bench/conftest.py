"""Measuring programs side by side: CPU and wall time, peak memory, and who else was busy meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
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
        launcher = [sys.executable, "-I", str(Path(__file__).with_name("cost_of.py"))]
        done = subprocess.run([*launcher, *command], stdout=subprocess.PIPE, text=True, check=True)
        return Cost(**json.loads(done.stdout))

    return run


@pytest.fixture(scope="session")
def measure_memory() -> Callable[[Sequence[str]], int]:
    """Run a command that must succeed, and say how many bytes all its processes held at the peak."""

    def run(command: Sequence[str]) -> int:
        launcher = [sys.executable, "-I", str(Path(__file__).with_name("memory_of.py"))]
        done = subprocess.run([*launcher, *command], stdout=subprocess.PIPE, text=True, check=True)
        return int(done.stdout)

    return run
