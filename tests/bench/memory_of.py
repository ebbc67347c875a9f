"""Run a program and print the peak memory of all its processes: ``memory_of.py PROGRAM ARGUMENT…``

The sum of their proportional shares (PSS): what two of them share counts once.  Looking costs time, so this
is a run of its own.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

PAUSE = 0.02  # seconds between two looks


def family(process: int) -> list[int]:
    """A process and all below it."""
    found = [process]
    for each in found:
        try:
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # it has just ended
    return found


def share(process: int) -> int:
    """The proportional share of a process, in bytes."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has just ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def main() -> None:
    """Print the peak, in bytes."""
    silence = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    child = os.posix_spawnp(sys.argv[1], sys.argv[1:], dict(os.environ), file_actions=silence)
    peak = 0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        peak = max(peak, sum(map(share, family(child))))
        time.sleep(PAUSE)
    print(peak)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
