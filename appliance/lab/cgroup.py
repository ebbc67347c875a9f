"""Control groups: everything a node runs is in one, so that one write ends it all.

Only the unified hierarchy is used (``cgroup.kill``, Linux 5.14).
"""

from __future__ import annotations

import functools
import os
import select
import time
from pathlib import Path

from appliance.errors import LabFailed, PreflightFailed
from appliance.lab import kernel


def cgroup_path(name: str) -> Path:
    """The path of a control group under the unified hierarchy's root; it may not exist.

    Raises:
        PreflightFailed: the kernel gives no unified hierarchy.
    """
    return Path(f"/proc/self/fd/{_hierarchy()}") / name


@functools.cache
def _hierarchy() -> int:
    """A mount of the hierarchy for this process alone, so that it matters to nobody what is mounted where.

    ``ip netns exec``, for one, covers the usual mount with a bare /sys.
    """
    try:
        return kernel.detached_mount("cgroup2")
    except OSError as error:
        raise PreflightFailed(
            "no unified control group hierarchy here",
            found=str(error),
            wanted="Linux 5.14 or later, and root on a host or virtual machine",
            hint="do not run labs inside a container",
        ) from error


def enter(group: Path) -> None:
    """Make the control group and move this process into it."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")


def is_populated(group: Path) -> bool:
    """Whether any process lives in the control group or below."""
    try:
        events = (group / "cgroup.events").read_text("ascii")
    except OSError:  # never made, or removed meanwhile
        return False
    return "populated 1" in events.splitlines()


def kill(group: Path, *, timeout: float) -> None:
    """End every process in the control group at once, and remove it with all below.

    Nothing happens when it does not exist.

    Args:
        group: path of the control group.
        timeout: seconds to wait for the processes to be gone.

    Raises:
        LabFailed: processes remain.
    """
    try:
        (group / "cgroup.kill").write_text("1", "ascii")
    except FileNotFoundError:
        return
    wait_empty(group, timeout=timeout)
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()


def wait_empty(group: Path, *, timeout: float) -> None:
    """Wait until no process lives in the control group or below.

    Raises:
        LabFailed: after ``timeout`` seconds there still are.
    """
    deadline = time.monotonic() + timeout
    with (group / "cgroup.events").open("rb", buffering=0) as events:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while b"populated 1" in os.pread(events.fileno(), 4096, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabFailed(
                    "processes of a practice node do not end",
                    found=f"{group} is not empty after {timeout:.0f} s",
                    wanted="no process left",
                    hint="look at the processes in its cgroup.procs, then run the command again",
                )
            poll.poll(left * 1000)
