"""Run a program and print what it cost, as JSON: ``python -I cost_of.py PROGRAM ARGUMENT…``

A process of its own, and small: Linux counts into a child's peak memory what its parent held when the
child was started (getrusage(2), ``ru_maxrss`` over execve), and a test session holds hundreds of megabytes.
"""

from __future__ import annotations

import json
import os
import sys
import time


def busy_seconds() -> float:
    """CPU seconds that were not idle, of all cores since boot (proc_stat(5)), stolen time included."""
    with open("/proc/stat") as file:  # noqa: PTH123 - pathlib would double this program's memory
        user, nice, system, _, _, *rest = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print CPU and wall seconds, peak bytes, and the CPU seconds per second that others used."""
    program = sys.argv[1]
    silence = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    started, busy = time.perf_counter(), busy_seconds()
    child = os.posix_spawnp(program, sys.argv[1:], dict(os.environ), file_actions=silence)
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - started
    cpu = usage.ru_utime + usage.ru_stime
    others = (busy_seconds() - busy - cpu) / wall
    print(json.dumps({"cpu": cpu, "wall": wall, "memory": usage.ru_maxrss * 1024, "others": others}))
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
