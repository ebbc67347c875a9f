"""Runs of pytest at once: all count, all are heard, and one closing line comes last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
sys.path.insert(0, "scripts")
from run_tests import run_beside
code = run_beside(*([sys.executable, "-c", each] for each in sys.argv[1:]))
sys.exit(code if code >= 0 else 128 - code)
"""


def start(*programs: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *programs], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )


def test_the_last_line_of_the_first_comes_after_all_that_the_others_said() -> None:
    first = "print('dots'); print('summary'); print('== 9000 passed ==')"
    second = "import sys; print('node dots'); sys.stderr.write('oops\\n'); print('== 40 passed ==')"
    third = "import time; time.sleep(0.5); print('machine dots')"
    process = start(first, second, third)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = [line for line in output.splitlines() if line]
    assert lines[:2] == ["dots", "summary"]
    assert set(lines[2:-2]) == {"node dots", "oops", "== 40 passed =="}
    assert lines[-2] == "machine dots"
    assert lines[-1] == "== 9000 passed =="


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ((0, 0, 0), 0),
        ((1, 0, 0), 1),
        ((0, 1, 0), 1),
        ((0, 0, 1), 1),
        ((2, 1, 0), 2),
        ((0, 5), 5),
        ((0, -9), 137),
    ],
)
def test_it_fails_if_one_does(codes: tuple[int, ...], code: int) -> None:
    ends = [f"import os, sys; print('end', flush=True); {_end(one)}" for one in codes]
    process = start(*ends)
    process.communicate(timeout=60)
    assert process.returncode == code


def _end(code: int) -> str:
    return f"sys.exit({code})" if code >= 0 else f"os.kill(os.getpid(), {-code})"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_reaches_all_once_and_what_they_said_is_printed(tmp_path: Path, number: int) -> None:
    waits = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    open({path!r}, "w").close()
    signal.pause()
except KeyboardInterrupt:
    print("ended {name}", flush=True)
    sys.exit(2)
"""
    paths = {name: tmp_path / name for name in ("first", "second", "third")}
    process = start(*(waits.format(path=str(path), name=name) for name, path in paths.items()))
    while not all(path.exists() for path in paths.values()):
        assert process.poll() is None
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert {"ended first", "ended second", "ended third"} <= set(output.splitlines())


def test_every_test_is_in_one_of_the_three() -> None:
    """What make test leaves out are benchmarks, and tests that run inside a virtual machine."""
    text = (REPOSITORY / "scripts/run_tests.py").read_text()
    assert 'NODES = "node and not bench and not dmcrypt and not vllm and not dkms"' in text
    assert 'MACHINES = "vm and not node and not bench and not dmcrypt"' in text
    assert 'OTHERS = "not node and not vm and not bench and not dmcrypt"' in text
    assert "scripts/run_tests.py" in (REPOSITORY / "Makefile").read_text()
