"""Run every test: those on practice nodes beside all others, in a pytest of their own.

    python scripts/run_tests.py [OPTIONS OF PYTEST]

Each half wants little more than one processor most of the time, the one for systems that boot and are
asked over SSH, the other for a virtual machine, which then idles for ten minutes; and each takes about
half an hour.  What is printed: the others' output as it comes, then all that was said of the nodes, and
last the others' closing line.  The exit code is 0 if both are.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

NODES = "node and not bench and not dmcrypt and not vllm"
OTHERS = "not node and not bench and not dmcrypt"


def main(options: Sequence[str]) -> int:
    """Run both; the exit code."""
    pytest = [sys.executable, "-m", "pytest", *(["--color=yes"] if sys.stdout.isatty() else []), *options]
    nodes = [*pytest, "-o", "cache_dir=.pytest_cache/nodes", "-m", NODES]
    return run_beside([*pytest, "-m", OTHERS], nodes)


def run_beside(command: Sequence[str], beside: Sequence[str]) -> int:
    """Run two commands at once, and print the output of one whole, before the other's last line.

    Args:
        command: printed as it comes, but for its last line.
        beside: printed when both have ended.

    Returns:
        Exit code of the first that failed, or 0.
    """
    out, running = sys.stdout.buffer, _Interruptible()
    with tempfile.TemporaryFile() as said:
        other = running.start(beside, said, subprocess.STDOUT)
        one = running.start(command, subprocess.PIPE, None)
        last = _follow(one.stdout, out)
        code, beside_code = one.wait(), other.wait()
        said.seek(0)
        out.write(b"\n" + said.read() + b"\n" + last)
        out.flush()
    return code or beside_code


class _Interruptible:
    """Processes that Ctrl-C and polite ends reach once each, from here: each is in a group of its own."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._interrupted = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)

    def start(
        self, command: Sequence[str], output: IO[bytes] | int, errors: int | None
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, process_group=0
        )
        self._processes.append(process)
        if self._interrupted:  # before this one was in the list
            process.send_signal(signal.SIGINT)
        return process

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if not self._interrupted:
            self._interrupted = True
            for process in self._processes:
                process.send_signal(signal.SIGINT)


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
