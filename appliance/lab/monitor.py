"""Talk with QEMU over its monitor: QMP, one JSON object per line (QEMU's docs/interop/qmp-spec.rst)."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from appliance.errors import LabFailed
from appliance.lab.unix_socket import short_path

if TYPE_CHECKING:
    from pathlib import Path

# Of a machine that is busy itself; one that has ended closes the connection.
_TIMEOUT = 120.0


class Monitor:
    """One connection, on which commands are asked for one at a time and events come in between.

    Args:
        connection: connected, and closed by whoever made it.

    Raises:
        LabFailed: the machine ended, or does not speak QMP.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.settimeout(_TIMEOUT)
        self._text = b""
        self._events: list[dict[str, Any]] = []
        self._receive()  # the greeting
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> Any:
        """Ask for a command and return its result.

        Raises:
            LabFailed: QEMU refuses, or has ended.
        """
        question = {"execute": command, "arguments": arguments}
        try:
            self._connection.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            raise _ended(str(error)) from error
        while True:
            answer = self._receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise LabFailed(f"QEMU refused {command}", found=str(answer["error"].get("desc")))
            self._events.append(answer)

    def events(self) -> list[dict[str, Any]]:
        """The events that have come, at least one when something can be read; None of them twice.

        Raises:
            LabFailed: the machine ended.
        """
        if not self._events:
            self._events.append(self._receive())
        while b"\n" in self._text:
            self._events.append(self._receive())
        found, self._events = self._events, []
        return found

    @property
    def waiting(self) -> bool:
        """Whether events have come already that nobody took."""
        return bool(self._events) or b"\n" in self._text

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._text:
            try:
                more = self._connection.recv(65536)
            except OSError as error:
                raise _ended(str(error)) from error
            if not more:
                raise _ended("the connection ended")
            self._text += more
        line, _, self._text = self._text.partition(b"\n")
        values: dict[str, Any] = json.loads(line)
        return values


def _ended(what: str) -> LabFailed:
    return LabFailed("the virtual machine's monitor does not answer", found=what, wanted="a running QEMU")


def ask(folder: Path, command: str, **arguments: object) -> Any:
    """Ask the machine of the node in ``folder`` for one command.

    Raises:
        LabFailed: the machine is off, or QEMU refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with short_path(folder / SOCKET) as path:
                connection.connect(path)
        except OSError as error:
            raise _ended(str(error)) from error
        return Monitor(connection).call(command, **arguments)


#: The socket in a node's folder on which its QEMU takes commands.
SOCKET = "monitor"


def listen(folder: Path) -> socket.socket:
    """The listening socket for ``ask``, in the node's folder."""
    (folder / SOCKET).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    with short_path(folder / SOCKET) as path:
        listening.bind(path)
    listening.listen(1)
    return listening
