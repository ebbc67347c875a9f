"""Runs of pytest at once: all count, all are heard, and one closing line comes last."""

from __future__ import annotations

import json
import os
import re
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


def test_an_interrupt_does_not_wait_for_the_linters(tmp_path: Path) -> None:
    """Make would: it hands on a polite end, but no Ctrl-C that it alone gets."""
    (tmp_path / "Makefile").write_text("lint:\n\ttouch linting\n\tsleep 1000\n")
    script = f"""
import signal, sys
sys.path.insert(0, "scripts")
from run_tests import LINT, run_beside
waits = "import signal; signal.signal(signal.SIGINT, lambda *_: exit(2)); signal.pause()"
sys.exit(run_beside([sys.executable, "-c", waits], [*LINT, "-C", {str(tmp_path)!r}]))
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY)
    while not (tmp_path / "linting").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


GROUPS = """
import json, sys
sys.path.insert(0, "scripts")
import run_tests
print(json.dumps([run_tests.OTHERS, run_tests.groups()]))
"""


def test_every_test_is_in_one_of_the_groups() -> None:
    """Left out are benchmarks, real vLLM and dkms, and tests that run inside a virtual machine."""
    done = subprocess.run(
        [sys.executable, "-c", GROUPS], cwd=REPOSITORY, capture_output=True, check=True, text=True
    )
    others, groups = json.loads(done.stdout)
    assert others == "not node and not vm and not bench and not dmcrypt"
    wheres = {name: where for name, _, where in groups}
    assert wheres.keys() == {"machines", "drives", "nodes", "roles"}
    for name, which, where in groups:
        kind = "node" if name in {"nodes", "roles"} else "vm and not node"
        assert (
            which.removesuffix(" and not vllm and not dkms and not h100")
            == f"{kind} and not bench and not dmcrypt"
        )
        assert all((REPOSITORY / each.removeprefix("--ignore=")).exists() for each in where)
    assert wheres["nodes"] == [f"--ignore={each}" for each in wheres["roles"]]
    assert all(each.startswith("tests/node/") for each in wheres["roles"])
    assert wheres["machines"] == ["tests/vm", *(f"--ignore={each}" for each in wheres["drives"])]
    assert all(each.startswith("tests/vm/") for each in wheres["drives"])
    marked = re.compile(r"^(pytestmark = .*|@)pytest\.mark\.vm\b", re.MULTILINE)
    found = [path for path in (REPOSITORY / "tests").rglob("test_*.py") if marked.search(path.read_text())]
    assert {str(path.relative_to(REPOSITORY).parent) for path in found} == {"tests/vm"}
    assert "scripts/run_tests.py" in (REPOSITORY / "Makefile").read_text()
