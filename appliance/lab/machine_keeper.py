"""Keeps a virtual machine running, watches its monitor, and says when its SSH server answers.

QEMU runs in mount and network namespaces of its own: it reaches what was handed to it, and nothing else.
A reset, by whomever, is a boot within the same QEMU.  A machine's TPM and simulated drives are processes
beside it, which have power as long as it has.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
from typing import Any

from appliance.errors import LabFailed
from appliance.lab import bay, kernel, monitor, namespaces, network, qemu, tap, tpm
from appliance.lab.keeping import CONSOLE, Keeper
from appliance.lab.monitor import Monitor

_SSH_PORT = 22
_PROBE_SECONDS = 1.0
_PAUSE_MILLISECONDS = 200
# No kernel gets as far as asking for a reset in so short a time.
_SAME_RESET_SECONDS = 3.0


class MachineKeeper(Keeper):
    """Runs a node with QEMU until it is switched off."""

    # Whether the machine is a copy whose ports are still empty.
    _bare = False
    # Whether it was stopped because its disk's file cannot be written.
    _stands_still = False
    # When it was reset last, in seconds of QEMU's clock.
    _reset_at = 0.0

    def _boot(self) -> int:
        self._bare = self._restored
        beside: list[int] = []
        try:
            with contextlib.ExitStack() as held:
                slots, tpm_end = self._plug_in_drives(held, beside), self._plug_in_tpm(held, beside)
                ours, theirs = socket.socketpair()
                held.enter_context(theirs)
                child = self._fork(functools.partial(self._become_qemu, theirs, slots, tpm_end))
            return self._run(child, ours)
        finally:
            for part in beside:
                os.kill(part, signal.SIGKILL)
                os.waitpid(part, 0)

    def _run(self, child: int, ours: socket.socket) -> int:
        with ours:
            self._machine.leader = child
            self._tell("leader", pid=child)
            handle = os.pidfd_open(child)
            try:
                self._attend(Monitor(ours), ours, handle)
            except LabFailed:
                pass  # QEMU ended: its exit code and its console say why
            finally:
                os.close(handle)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _plug_in_drives(self, held: contextlib.ExitStack, beside: list[int]) -> int | None:
        """Start the machine's simulated drives; the descriptor of its end of their cable."""
        if not self._node.drives:
            return None
        ours, theirs = socket.socketpair()
        with ours, theirs:
            beside.append(
                self._fork(functools.partial(bay.become_drives, self._folder, self._node, theirs))
            )
            theirs.close()  # so that the end of the drives is the end of the connection
            _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
        if not descriptors:
            return None
        held.callback(os.close, descriptors[0])
        return descriptors[0]

    def _plug_in_tpm(self, held: contextlib.ExitStack, beside: list[int]) -> int | None:
        """Start the machine's TPM, if one is in; the descriptor of the machine's end of its bus."""
        if tpm.tpm_state(self._folder) != "in":
            return None
        ours, theirs = socket.socketpair()
        held.enter_context(ours)
        with theirs:
            beside.append(self._fork(functools.partial(self._become_tpm, theirs)))
        return ours.fileno()

    def _become_tpm(self, connection: socket.socket) -> None:
        """In the child: become the TPM.  Never returns."""
        kernel.leave_shared()
        os.set_inheritable(connection.fileno(), True)
        image = qemu.Image(self._lab.root)
        command = tpm.tpm_command(image, self._folder, connection.fileno())
        os.execve(command[0], command, qemu.environment(image.qemu))  # noqa: S606 - becoming it is the point

    @property
    def _restored(self) -> bool:
        """Only a machine's first boot can begin as a copy: later its disk is another."""
        return self._lab.restored and self._machine.boots == 1

    def _become_qemu(self, theirs: socket.socket, slots: int | None, tpm_end: int | None) -> None:
        """In the child: lay the cables and become QEMU.  Never returns."""
        taps = {}
        with namespaces.joined(self._lab.netns):
            for nic in self._node.nics:
                taps[nic.purpose] = tap.open_tap(nic.link)
                network.plug(nic)
        listening = monitor.listen(self._folder)
        kernel.leave_shared()
        given = (theirs.fileno(), listening.fileno(), *taps.values(), slots, tpm_end)
        for descriptor in given:
            if descriptor is not None:
                os.set_inheritable(descriptor, True)
        image = qemu.Image(self._lab.root)
        command = qemu.boot_command(
            image,
            self._node,
            qemu.Disks(self._folder),
            console=self._folder / CONSOLE,
            taps=taps,
            monitor=theirs.fileno(),
            listening=listening.fileno(),
            restored=self._restored,
            capture=self._machine.boots if self._lab.capture else None,
            slots=slots,
            tpm=tpm_end,
        )
        os.execve(command[0], command, qemu.environment(image.qemu))  # noqa: S606 - becoming it is the point

    def _attend(self, talk: Monitor, connection: socket.socket, ended: int) -> None:
        """Take in what the monitor says until the machine has ended."""
        if self._bare and talk.call("query-status")["running"]:
            self._plug(talk)
        poll = select.poll()
        poll.register(connection, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            timeout = None if self._machine.ready else _PAUSE_MILLISECONDS
            ready = {descriptor for descriptor, _ in poll.poll(0 if talk.waiting else timeout)}
            if connection.fileno() in ready or talk.waiting:
                for event in talk.events():
                    self._note(talk, event)
            elif ended in ready:
                return
            elif not self._machine.ready and self._ssh_answers():
                self._machine.ready = True
                self._tell("ready")

    def _note(self, talk: Monitor, event: dict[str, Any]) -> None:
        if event["event"] == "RESUME" and self._bare:
            self._plug(talk)
        elif event["event"] == "RESET":
            self._note_reset(event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6)
        elif event["event"] == "BLOCK_IO_ERROR" and not self._stands_still:
            self._stands_still = True  # there is one event for each write that was under way
            with (self._folder / CONSOLE).open("a", encoding="utf-8") as console:
                console.write(f"appliance lab: the machine stands still: {event['data'].get('reason')}\n")

    def _note_reset(self, moment: float) -> None:
        """Count a boot.  After each reset the firmware resets once more, to find all devices clean."""
        again = moment - self._reset_at < _SAME_RESET_SECONDS
        self._reset_at = moment
        if not again:
            self._machine.boots += 1
            self._machine.ready = False
            self._tell("reset")
            with contextlib.suppress(LabFailed):  # drives that somebody killed
                bay.warm_reset(self._folder, self._node)

    def _plug(self, talk: Monitor) -> None:
        self._bare = False
        for device in qemu.plugged(self._node):
            talk.call("device_add", **device)

    def _ssh_answers(self) -> bool:
        try:
            with namespaces.joined(self._lab.netns):
                probe = socket.create_connection((self._node.address4, _SSH_PORT), timeout=_PROBE_SECONDS)
            with probe:
                return probe.recv(4) == b"SSH-"
        except OSError:
            return False
