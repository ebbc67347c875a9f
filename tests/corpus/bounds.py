"""What a hostile input may cost: 10 seconds of CPU, 256 MB of memory, and no waiting for ever.

Time is that of this process, all its threads together, since a wall clock says more about the machine than
about a case.  What waits without using any (for a named pipe, say) is ended by the wall clock.

Memory is the growth of the highest resident size, which the kernel is told to forget before each case
(proc(5), ``clear_refs``): all of it is counted, whoever allocated it, the making of the case included.  A
limit on the data segment ends what would take the machine with it.
"""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU_SECONDS: Final = 10
WAITING_SECONDS: Final = 60
MEMORY: Final = 256 << 20
_RUNAWAY: Final = 2 << 30
_STATUS: Final = Path("/proc/self/status")
_FORGET_HIGHEST: Final = "5"


@contextmanager
def bounded() -> Iterator[None]:
    """Fail the test whose body takes more."""
    with _time_limits(), _data_limit():
        Path("/proc/self/clear_refs").write_text(_FORGET_HIGHEST)
        before = _kilobytes("VmRSS")
        yield
        grown = (_kilobytes("VmHWM") - before) << 10
    if grown > MEMORY:
        pytest.fail(f"took {grown / 1e6:.0f} MB, more than {MEMORY / 1e6:.0f}")


@contextmanager
def _time_limits() -> Iterator[None]:
    def too_long(number: int, _: object) -> None:
        what = f"{CPU_SECONDS} s of CPU" if number == signal.SIGPROF else f"{WAITING_SECONDS} s"
        pytest.fail(f"still busy after {what}")

    before = {each: signal.signal(each, too_long) for each in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    signal.alarm(WAITING_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _data_limit() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, ((_kilobytes("VmData") << 10) + _RUNAWAY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _kilobytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])
