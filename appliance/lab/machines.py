"""Start and stop the machines of a lab's nodes, from outside.

A machine is running exactly while its control group has processes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import LabFailed
from appliance.lab import cgroup, monitor
from appliance.lab.keeping import CONSOLE, KEEPER_GROUP, MACHINE_GROUP, Machine, read_machine
from appliance.lab.places import node_folder

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from appliance.lab.plan import Lab, Node

_CONSOLE_LINES = 20
_KILL_TIMEOUT = 30.0
_PAUSE = 0.1
# What systemd as PID 1 understands as "power off" (systemd(1), "Signals").
_POWER_OFF = signal.SIGRTMIN + 4


@dataclass
class Started:
    """A keeper just started, and the reading end of its reports."""

    node: Node
    folder: Path
    reports: int
    text: bytes = b""


def start(folder: Path, node: Node, *, lock: int) -> Started:
    """Start a node's keeper, detached.  Call it from the lab's operator side.

    Args:
        folder: the lab's folder.
        node: the node to boot.
        lock: the descriptor that holds the lab's lock.
    """
    reading, writing = os.pipe()
    home = node_folder(folder, node.name)
    keeper = [sys.executable, "-P", "-m", "appliance.lab.keeper"]
    with (home / CONSOLE).open("ab") as console:
        subprocess.Popen(
            [*keeper, folder, node.name, str(writing), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            pass_fds=(writing, lock),
            start_new_session=True,
            cwd="/",
        )
    os.close(writing)
    return Started(node, home, reading)


def wait_ready(started: Iterable[Started], *, deadline: float) -> None:
    """Wait until every machine has finished booting.

    Args:
        started: what ``start`` gave; their descriptors are closed here.
        deadline: in seconds of ``time.monotonic``.

    Raises:
        LabFailed: one ended or is not ready in time; the message carries the end of its console.
    """
    waiting = {one.reports: one for one in started}
    try:
        while waiting:
            readable, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                one = next(iter(waiting.values()))
                raise _boot_failed(one.node, one.folder, "it is not ready in time")
            for descriptor in readable:
                if _is_ready(waiting[descriptor]):
                    del waiting[descriptor]
                    os.close(descriptor)
    finally:
        for descriptor in waiting:
            os.close(descriptor)


def wait_booted_again(node: Node, home: Path, boots: int, *, deadline: float) -> None:
    """Wait until a machine has booted more often than ``boots`` times and is ready.

    Args:
        node: the node.
        home: the node's folder.
        boots: how often it had booted.
        deadline: in seconds of ``time.monotonic``.

    Raises:
        LabFailed: it is not ready in time, or ended; the message carries the end of its console.
    """
    while True:
        machine = read_machine(home)
        if machine.ready and machine.boots > boots:
            return
        if machine.code is not None:
            raise _boot_failed(node, home, f"it ended with exit code {machine.code}")
        if time.monotonic() >= deadline:
            raise _boot_failed(node, home, "it is not ready in time")
        time.sleep(_PAUSE)


def _is_ready(one: Started) -> bool:
    chunk = os.read(one.reports, 4096)
    one.text += chunk
    events = [json.loads(line) for line in one.text.split(b"\n")[:-1]]
    ended = [event for event in events if event["event"] == "ended"]
    if ended:
        raise _boot_failed(one.node, one.folder, f"it ended with exit code {ended[0]['code']}")
    if not chunk:
        raise _boot_failed(one.node, one.folder, "its keeper ended")
    return any(event["event"] == "ready" for event in events)


def _boot_failed(node: Node, home: Path, what: str) -> LabFailed:
    lines = (home / CONSOLE).read_text("utf-8", errors="replace").splitlines()[-_CONSOLE_LINES:]
    console = "\n         ".join(lines) or "an empty console"
    return LabFailed(
        f"the practice node {node.name} did not boot: {what}",
        found=console,
        wanted="a node that finishes booting",
    )


def machine_group(lab: Lab, node: Node) -> Path:
    """The control group of a node: its keeper's and its machine's are below."""
    return cgroup.cgroup_path(lab.cgroup) / node.name


def is_running(lab: Lab, node: Node) -> bool:
    """Whether the node's machine is on."""
    return cgroup.is_populated(machine_group(lab, node) / MACHINE_GROUP)


def machine_of(folder: Path, node: Node) -> Machine:
    """What the node's keeper last wrote, in the lab's folder; all empty before it wrote anything."""
    return read_machine(node_folder(folder, node.name))


def power_off(lab: Lab, folder: Path, node: Node, *, timeout: float) -> None:
    """Shut the node down in order, and wait until machine and keeper have ended.

    Raises:
        LabFailed: it is still on after ``timeout`` seconds.
    """
    machine = machine_of(folder, node)
    if is_running(lab, node) and machine.leader is not None:
        if node.machine:
            monitor.ask(node_folder(folder, node.name), "system_powerdown")
        else:
            os.kill(machine.leader, _POWER_OFF)
        for part in (MACHINE_GROUP, KEEPER_GROUP):
            cgroup.wait_empty(machine_group(lab, node) / part, timeout=timeout)
    cut_power(lab, node)


def reset(folder: Path, node: Node) -> None:
    """Press a virtual machine's reset button.

    Raises:
        LabFailed: it is off.
    """
    monitor.ask(node_folder(folder, node.name), "system_reset")


def cut_power(lab: Lab, node: Node) -> None:
    """End everything the node runs, this instant, as a pulled plug does."""
    cgroup.kill(machine_group(lab, node), timeout=_KILL_TIMEOUT)
