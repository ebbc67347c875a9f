"""Keeps a container running.  A reboot is complete: new namespaces, new cable, new network configuration;
only the disk stays.
"""

from __future__ import annotations

import functools
import os
import select
import socket
import subprocess

from appliance.lab import container, kernel, namespaces, network
from appliance.lab.keeping import Keeper


class ContainerKeeper(Keeper):
    """Boots a node with systemd-nspawn, again when the node asks for it."""

    reboot_code = container.REBOOT

    def _boot(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
            child = self._fork(functools.partial(self._become_node, notifications, os.getpid()))
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

    def _become_node(self, notifications: socket.socket, keeper: int) -> None:
        """In the child: lay everything out and become systemd-nspawn.  Never returns."""
        kernel.leave_shared()
        for command in container.mount_commands(self._lab.root, self._folder):
            subprocess.run(command, check=True)
        notifications.bind(container.NOTIFY_SOCKET)
        subprocess.run(container.cable_command(self._node, keeper), check=True)
        with namespaces.joined(self._lab.netns):
            network.plug(self._node.nics[0])
        command = container.boot_command(self._node, self._folder)
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": container.NOTIFY_SOCKET}
        os.execvpe(command[0], command, environment)  # noqa: S606 - becoming it is the point
