"""The power of a practice node: switch it off and on, pull its plug, press its reset button."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab import machines, namespaces
from appliance.lab.places import find_node, locked, node_folder
from appliance.lab.reach import wait_reachable
from appliance.lab.requirements import MACHINE_TOOLS, UP_TOOLS, require_root, require_tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.lab.places import Places
    from appliance.lab.plan import Lab, Node

_LOCK_WAIT = 10.0
#: Seconds a node has to boot, when nothing else is said.
CONTAINER_TIMEOUT = 60.0
MACHINE_TIMEOUT = 300.0


def boot_timeout(given: float | None, *, machine: bool) -> float:
    """Seconds a node has to boot: what was asked for, or what is usual for its kind."""
    if given is not None:
        return given
    return MACHINE_TIMEOUT if machine else CONTAINER_TIMEOUT


def reboot_node(places: Places, name: str, *, cut: bool, timeout: float | None) -> Node:
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
    with _held(places, name) as (lab, node, folder, lock):
        seconds = boot_timeout(timeout, machine=lab.machine)
        if cut:
            machines.cut_power(lab, node)
        else:
            machines.power_off(lab, folder, node, timeout=seconds)
        _switch_on(places, node, folder, lock, deadline=time.monotonic() + seconds)
    return node


def cut_power(places: Places, name: str) -> Node:
    """Pull a node's plug: what it had not written is lost.  A node that is off stays off.

    Raises:
        LabFailed: no such lab.
        InProgress: another run is working on the lab.
        Usage: the name names no single node.
    """
    with _held(places, name) as (lab, node, _, _):
        machines.cut_power(lab, node)
    return node


def power_on(places: Places, name: str, *, timeout: float | None) -> Node:
    """Switch a node on; when it returns, root can log in.  A node that is on stays as it is.

    Raises:
        LabFailed: no such lab, or the node does not come up; the message carries the end of its console.
        InProgress: another run is working on the lab.
        Usage: the name names no single node.
    """
    with _held(places, name) as (lab, node, folder, lock):
        if not machines.is_running(lab, node):
            seconds = boot_timeout(timeout, machine=lab.machine)
            _switch_on(places, node, folder, lock, deadline=time.monotonic() + seconds)
    return node


def reset_node(places: Places, name: str, *, timeout: float | None) -> Node:
    """Press a node's reset button; when it returns, root can log in again.

    A container has none: its plug is pulled and put back, which is the same to it.

    Raises:
        LabFailed: no such lab, the node is off, or it does not come up again.
        InProgress: another run is working on the lab.
        Usage: the name names no single node.
    """
    with _held(places, name) as (lab, node, folder, lock):
        deadline = time.monotonic() + boot_timeout(timeout, machine=lab.machine)
        if not machines.is_running(lab, node):
            raise LabFailed(
                f"{node.name} is off",
                wanted="a node that is on",
                hint=f"appliance lab power on {node.name}",
            )
        if not lab.machine:
            machines.cut_power(lab, node)
            _switch_on(places, node, folder, lock, deadline=deadline)
            return node
        boots = machines.machine_of(folder, node).boots
        machines.reset(folder, node)
        machines.wait_booted_again(node, node_folder(folder, node.name), boots, deadline=deadline)
        wait_reachable(places.inventory(lab.name), node, deadline=deadline)
    return node


def change_tpm(places: Places, name: str, change: Callable[[Path], None]) -> Node:
    """Pull a node's TPM, put it back, or put another one in its place: what ``change`` does in its folder.

    Raises:
        LabFailed: no such lab, it has no TPMs, the node is on, or its TPM is elsewhere.
        InProgress: another run is working on the lab.
        Usage: the name names no single node.
    """
    with _held(places, name) as (lab, node, folder, _):
        if not lab.tpm:
            raise LabFailed(
                f"{node.name} has no place for a TPM",
                wanted="a lab that was brought up with --machine --tpm",
            )
        if machines.is_running(lab, node):
            raise LabFailed(
                f"{node.name} is on",
                wanted="a node that is off, as whoever opens its case wants it",
                hint=f"appliance lab power cut {node.name}",
            )
        change(node_folder(folder, node.name))
    return node


@contextlib.contextmanager
def _held(places: Places, name: str) -> Iterator[tuple[Lab, Node, Path, int]]:
    """A node whose lab nobody else works on; the block runs on the operator's side."""
    require_root()
    lab, node, folder = find_node(places, name)
    require_tools(MACHINE_TOOLS if lab.machine else UP_TOOLS)
    with locked(folder, wait=_LOCK_WAIT) as lock, namespaces.joined(lab.netns):
        yield lab, node, folder, lock


def _switch_on(places: Places, node: Node, folder: Path, lock: int, *, deadline: float) -> None:
    machines.wait_ready([machines.start(folder, node, lock=lock)], deadline=deadline)
    wait_reachable(places.inventory(folder.name), node, deadline=deadline)
