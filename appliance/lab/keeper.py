"""The process that keeps one practice node running: ``python -m appliance.lab.keeper``.

One keeper per node, detached from the command that started it.  It boots the node, boots it again
when the node asks for a reboot, and ends when the node powers off.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.lab import cgroup
from appliance.lab.keeping import KEEPER_GROUP
from appliance.lab.places import node_folder, read_state

if TYPE_CHECKING:
    from appliance.lab.keeping import Keeper


def main(arguments: list[str]) -> None:
    """Keep a node running.

    Args:
        arguments: lab folder, node name, descriptor to report to, descriptor holding the lab's lock.
    """
    folder, name = Path(arguments[0]), arguments[1]
    report, lock = int(arguments[2]), int(arguments[3])
    lab = read_state(folder)
    if lab is None:
        raise SystemExit(f"no lab in {folder}")
    cgroup.enter(cgroup.cgroup_path(lab.cgroup) / name / KEEPER_GROUP)
    # Until here `lab down` could not know of this process, so it was kept waiting.
    os.close(lock)
    _stay_nice()
    node = next(node for node in lab.nodes if node.name == name)
    _kind(machine=lab.machine)(lab, node, node_folder(folder, name), report).run()


def _stay_nice() -> None:
    """Be as nice as who asked for the lab: a session of one's own is otherwise weighed as all others are.

    The kernel divides time among sessions first (sched(7), "The autogroup feature"), and a keeper has one.
    """
    with contextlib.suppress(OSError):  # a kernel without the feature
        Path("/proc/self/autogroup").write_text(str(os.nice(0)), "ascii")


def _kind(*, machine: bool) -> type[Keeper]:
    if machine:
        from appliance.lab.machine_keeper import MachineKeeper

        return MachineKeeper
    from appliance.lab.container_keeper import ContainerKeeper

    return ContainerKeeper


if __name__ == "__main__":
    main(sys.argv[1:])
