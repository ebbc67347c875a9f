"""Controllers as hosts reach them over fabrics: Connect, properties, and the discovery controller.

NVM Express over Fabrics 1.1.  Controllers are dynamic: each Connect of an admin queue
makes one, which goes with that queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.lab.drive import commands, identify
from appliance.lab.drive.commands import INVALID_FIELD, INVALID_OPCODE, Completion
from appliance.lab.drive.pdu import FABRICS

if TYPE_CHECKING:
    from appliance.lab.drive.pdu import Command
    from appliance.lab.drive.simulated import SimulatedDrive

_DO_NOT_RETRY = 1 << 14
_BUSY, _INVALID_PARAMETERS = 0x181, 0x182 | _DO_NOT_RETRY  # of Connect
_PROPERTY_SET, _CONNECT, _PROPERTY_GET, _DISCONNECT = 0x00, 0x01, 0x04, 0x08
_CAP, _VS, _CC, _CSTS = 0x00, 0x08, 0x14, 0x1C

# CAP: 128 entries in contiguous queues, ready within 10 s (20 times 500 ms), the NVM command set.
_CAPABILITIES = (identify.QUEUE_ENTRIES - 1) | 1 << 16 | 20 << 24 | 1 << 37


@dataclass
class Controller:
    """What one host has of one drive, or of the discovery service.

    Attributes:
        drive: None for the discovery controller.
        configuration: the property CC.
    """

    identifier: int
    host: bytes
    name: str
    drive: SimulatedDrive | None
    configuration: int = 0

    def get(self, offset: int) -> int:
        """A property; 0 for those that are none."""
        shut_down = self.configuration >> 14 & 3
        status = self.configuration & 1 | (2 << 2 if shut_down else 0)
        return {
            _CAP: _CAPABILITIES,
            _VS: identify.VERSION,
            _CC: self.configuration,
            _CSTS: status,
        }.get(offset, 0)


@dataclass
class Target:
    """All drives behind one address.

    Attributes:
        drives: by their NVMe Qualified Names.
        address, port: where they are reached, for the discovery log.
    """

    drives: dict[str, SimulatedDrive]
    address: str = ""
    port: int = 0
    _controllers: dict[int, Controller] = field(default_factory=dict)
    _made: int = 0

    def connect(self, command: Command) -> tuple[Completion, Controller | None]:
        """A queue's Connect: who is connected to.

        A drive without power is busy: refused with Do Not Retry, Linux would give it up for good, and where
        the connection just ends, it waits a minute before it tries again.
        """
        data = command.data.ljust(1024, b"\0")
        wanted = int.from_bytes(data[16:18], "little")
        name = data[256:512].split(b"\0")[0].decode("ascii", "replace")
        host = data[512:768]
        queue = command.word(10) >> 16
        drive = self.drives.get(name)
        if drive is not None and not drive.powered:
            return Completion(_BUSY), None
        if drive is None and name != identify.DISCOVERY_NQN:
            return Completion(_INVALID_PARAMETERS), None
        if queue == 0:
            if wanted != 0xFFFF:
                return Completion(_INVALID_PARAMETERS), None
            self._made = self._made % 0xFFEF + 1
            controller = Controller(self._made, host, name, drive)
            self._controllers[controller.identifier] = controller
        else:
            found = self._controllers.get(wanted)
            if found is None or found.name != name or found.host != host or queue > identify.IO_QUEUES:
                return Completion(_INVALID_PARAMETERS), None
            controller = found
        return Completion(result=controller.identifier), controller

    def forget(self, controller: Controller) -> None:
        """The admin queue has gone, and its controller with it."""
        self._controllers.pop(controller.identifier, None)

    def carry_out(self, controller: Controller, queue: int, command: Command) -> Completion | None:
        """A command of a connected queue; None for one that is answered when something happens.

        Raises:
            PowerLost: as ordered.
        """
        if command.opcode == FABRICS:
            return _fabrics(controller, command)
        if controller.drive is None:
            return self._discover(controller, command)
        if queue == 0:
            return commands.admin(controller.drive, controller.identifier, command)
        return commands.io(controller.drive, command)

    def _discover(self, controller: Controller, command: Command) -> Completion | None:
        if command.opcode == 0x0C:
            return None
        if command.opcode == 0x18:
            return Completion()
        if command.opcode == 0x06 and command.word(10) & 0xFF == 1:
            return Completion(
                data=identify.discovery_controller(controller.identifier)[: command.data_length]
            )
        if command.opcode == 0x02 and command.word(10) & 0xFF == 0x70:
            page = identify.discovery_log(list(self.drives), self.address, self.port)
            offset = command.word(12) | command.word(13) << 32
            return Completion(data=page[offset:][: command.data_length].ljust(command.data_length, b"\0"))
        if command.opcode in {0x09, 0x0A}:
            return Completion()
        return Completion(INVALID_OPCODE)


def _fabrics(controller: Controller, command: Command) -> Completion:
    kind = command.entry[4]
    if kind == _PROPERTY_GET:
        return Completion(result=controller.get(command.word(11)))
    if kind == _PROPERTY_SET:
        if command.word(11) != _CC:
            return Completion(INVALID_FIELD)
        controller.configuration = command.word(12)
        return Completion()
    if kind == _DISCONNECT:
        return Completion()
    return Completion(INVALID_OPCODE)


def is_connect(command: Command) -> bool:
    """Whether a command is the Connect that a queue begins with."""
    return command.opcode == FABRICS and command.entry[4] == _CONNECT
