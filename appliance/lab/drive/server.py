"""NVMe/TCP: connections of hosts to drives.

NVMe/TCP Transport Specification 1.0.  One connection is one queue; its commands are carried
out one after the other, in the order they come.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from appliance.lab.drive import pdu
from appliance.lab.drive.fabrics import is_connect
from appliance.lab.drive.orders import PowerLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.lab.drive.fabrics import Controller, Target


class Connection:
    """One host's one queue.

    Args:
        target: the drives that can be connected to.
        reader, writer: the connection.
    """

    def __init__(self, target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._target = target
        self._reader = reader
        self._writer = writer
        self._controller: Controller | None = None
        self._queue = 0
        self._head, self._size = 0, 1
        self._tags = 0
        self._waiting: dict[int, tuple[pdu.Command, bytearray, int]] = {}

    @property
    def controller(self) -> Controller | None:
        """Whom the queue belongs to, once it is connected."""
        return self._controller

    def abort(self) -> None:
        """End at once; what was not sent is not sent."""
        self._writer.transport.abort()

    async def serve(self) -> None:
        """Until the host goes, breaks the rules, or power fails."""
        try:
            while True:
                header = pdu.Header.parse(await self._reader.readexactly(pdu.HEADER.size))
                body = await self._reader.readexactly(header.length - pdu.HEADER.size)
                if not await self._take(header, body):
                    break
                await self._writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, pdu.PduInvalid):
            pass
        finally:
            if self._controller is not None and self._queue == 0:
                self._target.forget(self._controller)
            self.abort()

    async def _take(self, header: pdu.Header, body: bytes) -> bool:
        """One PDU; whether the connection goes on."""
        if header.kind == pdu.IC_REQUEST:
            self._writer.write(pdu.initial_response(body))
        elif header.kind == pdu.COMMAND:
            await self._command(pdu.parse_command(header, body))
        elif header.kind == pdu.H2C_DATA:
            await self._data(pdu.parse_data(header, body))
        else:
            return False
        return True

    async def _command(self, command: pdu.Command) -> None:
        missing = command.data_length - len(command.data)
        if not command.from_host or missing <= 0:
            await self._carry_out(command)
            return
        if command.data_length > pdu.LARGEST_H2C_DATA:
            raise pdu.PduInvalid("more data than the drive takes")
        self._tags = self._tags % 0xFFFF + 1
        self._waiting[self._tags] = (command, bytearray(command.data_length), command.data_length)
        self._writer.write(pdu.ready(command, self._tags))

    async def _data(self, received: pdu.HostData) -> None:
        if received.tag not in self._waiting:
            raise pdu.PduInvalid("data that nobody asked for")
        command, data, missing = self._waiting[received.tag]
        if received.offset + len(received.data) > len(data):
            raise pdu.PduInvalid("more data than was asked for")
        data[received.offset : received.offset + len(received.data)] = received.data
        missing -= len(received.data)
        self._waiting[received.tag] = (command, data, missing)
        if missing <= 0:
            del self._waiting[received.tag]
            await self._carry_out(pdu.Command(command.entry, bytes(data)))

    async def _carry_out(self, command: pdu.Command) -> None:
        if is_connect(command):
            completion, self._controller = self._target.connect(command)
            self._queue = command.word(10) >> 16
            self._size = (command.word(11) & 0xFFFF) + 1
        elif self._controller is None:
            raise pdu.PduInvalid("a command before Connect")
        else:
            drive = self._controller.drive
            if drive is not None and drive.tper.orders.delay:
                await asyncio.sleep(drive.tper.orders.delay)
            try:
                done = self._target.carry_out(self._controller, self._queue, command)
            except PowerLost:
                if drive is not None:
                    drive.power_off()
                    drive.power_on()
                raise ConnectionAbortedError from None
            if done is None:
                return
            completion = done
        if completion.data:
            self._writer.write(pdu.data_to_host(command, completion.data))
        self._head = (self._head + 1) % self._size
        self._writer.write(
            pdu.response(command, self._queue, self._head, completion.status, completion.result)
        )


class Server:
    """Serves drives on one address.

    Args:
        target: the drives.
        report: called with a line about what happens, for a log.
    """

    def __init__(self, target: Target, report: Callable[[str], None]) -> None:
        self._target = target
        self._report = report
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        for drive in target.drives.values():
            drive.on_power_loss = self._ends(drive.profile.nqn)

    async def start(self, address: str, port: int) -> int:
        """Listen; the port, which 0 leaves to the system."""
        self._server = await asyncio.start_server(self._connected, address, port)
        self._target.address = address
        self._target.port = int(self._server.sockets[0].getsockname()[1])
        return self._target.port

    async def stop(self) -> None:
        """End all connections and listen no more."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self._target, reader, writer)
        self._connections.add(connection)
        try:
            # The program's end cancels what still waits; asyncio would print that as a fault.
            with contextlib.suppress(asyncio.CancelledError):
                await connection.serve()
        finally:
            self._connections.discard(connection)

    def _ends(self, name: str) -> Callable[[], None]:
        def end() -> None:
            self._report(f"{name}: power failed or the host reset; connections end")
            for connection in list(self._connections):
                if connection.controller is not None and connection.controller.name == name:
                    connection.abort()

        return end
