"""What every keeper does, whatever its node runs in: boot, boot again, tell, and end with its node.

What happens is written as JSON lines to the descriptor a keeper was given, until the node is ready::

    {"event": "leader", "pid": 4711}     {"event": "ready"}     {"event": "ended", "code": 1}

and its latest state to ``machine.json``: ``{"boots": 1, "leader": 4711, "ready": true, "code": null}``.
"""

from __future__ import annotations

import abc
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from appliance.lab import cgroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.lab.plan import Lab, Node

MACHINE = "machine.json"
CONSOLE = "console.log"
KEEPER_GROUP = "keeper"
MACHINE_GROUP = "machine"
_STOP_TIMEOUT = 30.0


@dataclass
class Machine:
    """What is known of a node's machine; ``code`` is set once it has ended."""

    boots: int = 0
    leader: int | None = None
    ready: bool = False
    code: int | None = None


class Keeper(abc.ABC):
    """Keeps one node running; ``run`` returns when it has powered off."""

    #: The exit code that asks to be booted again, if there is one.
    reboot_code: int | None = None

    def __init__(self, lab: Lab, node: Node, folder: Path, report: int) -> None:
        self._lab = lab
        self._node = node
        self._folder = folder
        self._report: int | None = report
        self._group = cgroup.cgroup_path(lab.cgroup) / node.name / MACHINE_GROUP
        self._machine = Machine(boots=_boots_before(folder))

    def run(self) -> None:
        code = self._start()
        while code == self.reboot_code:
            code = self._start()
        self._machine.code = code
        self._tell("ended", code=code)

    def _start(self) -> int:
        cgroup.kill(self._group, timeout=_STOP_TIMEOUT)
        self._machine = Machine(boots=self._machine.boots + 1)
        self._write()
        return self._boot()

    @abc.abstractmethod
    def _boot(self) -> int:
        """Boot once and wait for the end; returns the exit code."""

    def _fork(self, become: Callable[[], None]) -> int:
        """Start the node's process, its output on the console, in the node's control group.

        Args:
            become: runs in the child and does not return.
        """
        child = os.fork()
        if child:
            return child
        try:
            console = os.open(self._folder / CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(console, 1)
            os.dup2(console, 2)
            cgroup.enter(self._group)
            become()
        except BaseException as error:  # noqa: BLE001 - a forked child must never run its parent's code
            os.write(2, f"appliance lab: {error}\n".encode())
        os._exit(1)

    def _write(self) -> None:
        machine = self._folder / MACHINE
        partial = machine.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self._machine)) + "\n", "utf-8")
        partial.rename(machine)

    def _tell(self, event: str, **values: object) -> None:
        self._write()
        if self._report is None:
            return
        line = json.dumps({"event": event, **values}) + "\n"
        try:
            os.write(self._report, line.encode("utf-8"))
        except BrokenPipeError:  # whoever started this keeper is gone; the node runs on
            self._report = None


def read_machine(folder: Path) -> Machine:
    """What the keeper of the node in ``folder`` last wrote; all empty before it wrote anything."""
    try:
        text = (folder / MACHINE).read_text("utf-8")
    except FileNotFoundError:
        return Machine()
    return Machine(**json.loads(text))


def _boots_before(folder: Path) -> int:
    """How often the node was booted under earlier keepers."""
    return read_machine(folder).boots
