"""The process that keeps one practice node running: ``python -m appliance.lab.keeper``.

One keeper per node, detached from the command that started it.  It boots the node, boots it again
when the node asks for a reboot, and ends when the node powers off.  A reboot is complete: new
namespaces, new cable, new network configuration; only the disk stays.

What happens is written as JSON lines to the descriptor it was given, until the node is ready::

    {"event": "leader", "pid": 4711}     {"event": "ready"}     {"event": "ended", "code": 1}

and its latest state to ``machine.json``: ``{"boots": 1, "leader": 4711, "ready": true, "code": null}``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from appliance.lab import cgroup, container, kernel, namespaces, network
from appliance.lab.places import node_folder, read_state

if TYPE_CHECKING:
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


class Keeper:
    """Keeps one node running; ``run`` returns when it has powered off."""

    def __init__(self, lab: Lab, node: Node, folder: Path, report: int) -> None:
        self._lab = lab
        self._node = node
        self._folder = folder
        self._report: int | None = report
        self._group = cgroup.cgroup_path(lab.cgroup) / node.name / MACHINE_GROUP
        self._machine = Machine()

    def run(self) -> None:
        code = container.REBOOT
        while code == container.REBOOT:
            cgroup.kill(self._group, timeout=_STOP_TIMEOUT)
            self._machine = Machine(boots=self._machine.boots + 1)
            code = self._boot()
        self._machine.code = code
        self._tell("ended", code=code)

    def _boot(self) -> int:
        """Boot once and wait for the end; returns systemd-nspawn's exit code."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            keeper = os.getpid()
            child = os.fork()
            if child == 0:
                self._become_node(notifications, keeper)
            handle = os.pidfd_open(child)
            try:
                self._listen(notifications, handle)
            finally:
                os.close(handle)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _listen(self, notifications: socket.socket, ended: int) -> None:
        poll = select.poll()
        poll.register(notifications, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if notifications.fileno() in ready:
                self._note(notifications.recv(4096).decode("utf-8", errors="replace"))
            elif ended in ready:
                return

    def _note(self, message: str) -> None:
        """Take in one notification: lines of NAME=value (sd_notify(3))."""
        for line in message.splitlines():
            name, _, value = line.partition("=")
            if name == "X_NSPAWN_LEADER_PID":
                self._machine.leader = int(value)
                self._tell("leader", pid=self._machine.leader)
            elif (name, value) == ("READY", "1"):
                self._machine.ready = True
                self._tell("ready")

    def _tell(self, event: str, **values: object) -> None:
        machine = self._folder / MACHINE
        partial = machine.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self._machine)) + "\n", "utf-8")
        partial.rename(machine)
        if self._report is None:
            return
        line = json.dumps({"event": event, **values}) + "\n"
        try:
            os.write(self._report, line.encode("utf-8"))
        except BrokenPipeError:  # whoever started this keeper is gone; the node runs on
            self._report = None

    def _become_node(self, notifications: socket.socket, keeper: int) -> NoReturn:
        """In the child: lay everything out and become systemd-nspawn.  Never returns."""
        try:
            console = os.open(self._folder / CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(console, 1)
            os.dup2(console, 2)
            cgroup.enter(self._group)
            kernel.leave_shared()
            for command in container.mount_commands(self._lab.root, self._folder):
                subprocess.run(command, check=True)
            notifications.bind(container.NOTIFY_SOCKET)
            subprocess.run(container.cable_command(self._node, keeper), check=True)
            with namespaces.joined(self._lab.netns):
                network.run_ip("-batch", "-", text=container.plug_batch(self._lab, self._node))
            command = container.boot_command(self._node, self._folder)
            environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": container.NOTIFY_SOCKET}
            os.execvpe(command[0], command, environment)  # noqa: S606 - becoming it is the point
        except BaseException as error:  # noqa: BLE001 - a forked child must never run its parent's code
            os.write(2, f"appliance lab: {error}\n".encode())
        os._exit(1)


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
    node = next(node for node in lab.nodes if node.name == name)
    Keeper(lab, node, node_folder(folder, name), report).run()


if __name__ == "__main__":
    main(sys.argv[1:])
