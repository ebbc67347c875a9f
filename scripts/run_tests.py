"""Lint, and run every test: practice nodes and virtual machines in two pytests each, beside all others.

    python scripts/run_tests.py [OPTIONS OF PYTEST]

No test uses more than one processor for long, and those of nodes and machines wait much: for systems that
boot and are asked over SSH, and for an emulated machine, which then idles for ten minutes.  So several
run at once (docs/decisions/0088).  What is printed: the others' output as it comes, then all that was said
by the linters, of nodes and of machines, and last the others' closing line.  The exit code is 0 if all
are.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

NODES = "node and not bench and not dmcrypt and not vllm and not dkms and not h100"
MACHINES = "vm and not node and not bench and not dmcrypt"
OTHERS = "not node and not vm and not bench and not dmcrypt"

#: About half of what tests of nodes, and of machines, take: each half is a pytest of its own.
SOME_NODES = ("roles", "test_patch.py", "test_role_inference_server.py")
SOME_MACHINES = (
    *(f"test_opal_{name}.py" for name in ("enrolment", "life", "volumes")),
    *("test_luks_media.py", "test_machine_prepare.py", "test_simulated_drive.py"),
)

LINT = ("make", "--no-print-directory", "lint")


def main(options: Sequence[str]) -> int:
    """Run all; the exit code."""
    pytest = [sys.executable, "-m", "pytest", *(["--color=yes"] if sys.stdout.isatty() else []), *options]
    beside = [
        [*pytest, "-o", f"cache_dir=.pytest_cache/{name}", "-m", which, *where]
        for name, which, where in groups()
    ]
    return run_beside([*pytest, "-m", OTHERS], LINT, *beside)


def groups() -> list[tuple[str, str, list[str]]]:
    """What runs beside all others: a name, an expression of markers, and where the tests lie."""
    nodes = [f"tests/node/{name}" for name in SOME_NODES]
    machines = [f"tests/vm/{name}" for name in SOME_MACHINES]
    return [
        ("machines", MACHINES, ["tests/vm", *(f"--ignore={path}" for path in machines)]),
        ("drives", MACHINES, machines),
        ("nodes", NODES, [f"--ignore={path}" for path in nodes]),
        ("roles", NODES, nodes),
    ]


def run_beside(command: Sequence[str], *beside: Sequence[str]) -> int:
    """Run commands at once, and print the output of all but one whole, before that one's last line.

    Args:
        command: printed as it comes, but for its last line.
        beside: printed when all have ended, one after the other.

    Returns:
        Exit code of the first that failed, or 0.
    """
    out, running = sys.stdout.buffer, _Interruptible()
    with ExitStack() as files:
        said = [files.enter_context(tempfile.TemporaryFile()) for _ in beside]
        others = [
            running.start(each, file, subprocess.STDOUT) for each, file in zip(beside, said, strict=True)
        ]
        one = running.start(command, subprocess.PIPE, None)
        last = _follow(one.stdout, out)
        codes = [each.wait() for each in (one, *others)]
        for file in said:
            file.seek(0)
            out.write(b"\n" + file.read())
        out.write(b"\n" + last)
        out.flush()
    return next(filter(None, codes), 0)


class _Interruptible:
    """Processes that Ctrl-C and polite ends reach once each, from here: each is in a group of its own."""

    def __init__(self) -> None:
        self._processes: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []
        self._interrupted = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)

    def start(
        self, command: Sequence[str], output: IO[bytes] | int, errors: int | None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, process_group=0
        )
        # Where Ctrl-C reaches make alone, it waits for the linter that is at work.
        number = signal.SIGTERM if command[0] == LINT[0] else signal.SIGINT
        self._processes.append((process, number))
        if self._interrupted:  # before this one was in the list
            process.send_signal(number)
        return process

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._interrupted:
            self._interrupted = True
            for process, own in self._processes:
                process.send_signal(own)


def _follow(source: IO[bytes] | None, out: IO[bytes]) -> bytes:
    """Pass lines on as they come; the last one is returned instead."""
    held = b""
    for line in source or ():
        out.write(held)
        out.flush()
        held = line
    return held


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
