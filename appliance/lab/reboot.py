"""Switch a practice node off and on again: in order, or by pulling the plug."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.lab import machines, namespaces
from appliance.lab.places import find_node, locked
from appliance.lab.reach import wait_reachable
from appliance.lab.requirements import UP_TOOLS, require_root, require_tools

if TYPE_CHECKING:
    from appliance.lab.places import Places
    from appliance.lab.plan import Node

_LOCK_WAIT = 10.0


def reboot_node(places: Places, name: str, *, cut: bool, timeout: float) -> Node:
    """Switch a node off and on; when it returns, root can log in again.

    A node that is off is only switched on.

    Args:
        places: where labs are kept.
        name: the node's name, or its lab's.
        cut: pull the plug instead of shutting down.
        timeout: seconds for each of going down and coming up.

    Raises:
        LabFailed: no such lab, or the node does not go down or come up.
        InProgress: another run is working on the lab.
        Usage: the name names no single node.
    """
    require_root()
    require_tools(UP_TOOLS)
    lab, node, folder = find_node(places, name)
    with locked(folder, wait=_LOCK_WAIT) as lock, namespaces.joined(lab.netns):
        if cut:
            machines.cut_power(lab, node)
        else:
            machines.power_off(lab, folder, node, timeout=timeout)
        deadline = time.monotonic() + timeout
        machines.wait_ready([machines.start(folder, node, lock=lock)], deadline=deadline)
        wait_reachable(places.inventory(lab.name), node, deadline=deadline)
    return node
