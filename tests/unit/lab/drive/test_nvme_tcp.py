"""The controller, as an initiator of its own finds it over TCP."""

from __future__ import annotations

import asyncio
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from appliance.lab.drive.fabrics import Controller, Target
from appliance.lab.drive.pdu import Command
from appliance.lab.drive.profile import MIB, Profile
from appliance.lab.drive.server import Server
from appliance.lab.drive.simulated import SimulatedDrive
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import Host
from tests.unit.lab.drive.initiator import ACCESS_DENIED, DISCOVERY, OverTcp, Queue, attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DO_NOT_RETRY = 0x4000
INVALID_OPCODE, INVALID_FIELD, INVALID_NAMESPACE, LBA_OUT_OF_RANGE = 0x01, 0x02, 0x0B, 0x80
BUSY, CONNECT_INVALID = 0x181, 0x182 | DO_NOT_RETRY
BLOCKS = 16 * MIB // 512


class Rack:
    """Two drives, plugged in; a thread serves them."""

    def __init__(self, folder: Path) -> None:
        self.drives = [
            SimulatedDrive(folder / "a.img", lambda: Profile(size=16 * MIB)),
            SimulatedDrive(folder / "b.img", lambda: Profile(size=32 * MIB, block_size=4096)),
        ]
        self.names = [drive.profile.nqn for drive in self.drives]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.server = Server(Target(dict(zip(self.names, self.drives, strict=True))), lambda _line: None)
        starting = asyncio.run_coroutine_threadsafe(self.server.start("127.0.0.1", 0), self.loop)
        self.address = ("127.0.0.1", starting.result(30))

    def within(self, call: Callable[[], object]) -> None:
        """Call something where the drives are served."""

        async def there() -> None:
            call()

        asyncio.run_coroutine_threadsafe(there(), self.loop).result(30)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(30)
        for drive in self.drives:
            drive.close()


@pytest.fixture
def rack(tmp_path: Path) -> Iterator[Rack]:
    made = Rack(tmp_path)
    yield made
    made.close()


@pytest.fixture
def queues(rack: Rack) -> Iterator[tuple[Queue, Queue]]:
    found = attach(rack.address, rack.names[0])
    yield found
    for queue in found:
        queue.close()


def test_a_drive_identifies_itself(rack: Rack, queues: tuple[Queue, Queue]) -> None:
    admin, _ = queues
    page = admin.identify(1).data
    assert page[4:24].rstrip().decode() == rack.drives[0].profile.serial
    assert page[256] & 1  # Security Send and Receive: what Linux's sed-opal asks for, and nothing else
    assert page[768:1024].rstrip(b"\0").decode() == rack.names[0]
    assert struct.unpack_from("<H", page, 78)[0] == admin.controller
    space = admin.identify(0, 1).data
    assert struct.unpack_from("<QQQ", space) == (BLOCKS,) * 3
    assert space[130] == 9
    assert admin.identify(2).data[:8] == struct.pack("<II", 1, 0)
    assert admin.identify(3, 1).data[:4] == bytes([1, 8, 0, 0])
    assert admin.identify(0, 2).status == INVALID_NAMESPACE
    assert admin.identify(0x1F).status == INVALID_FIELD


def test_two_drives_are_two(rack: Rack, queues: tuple[Queue, Queue]) -> None:
    other_admin, other = attach(rack.address, rack.names[1])
    space = other_admin.identify(0, 1).data
    assert (struct.unpack_from("<Q", space)[0], space[130]) == (32 * MIB // 4096, 12)
    assert queues[0].identify(0, 1).data[104:128] != space[104:128]
    other.write(0, b"b" * 4096, 4096)
    assert queues[1].read(0, 8).data == bytes(4096)
    assert other.read(0, 1, 4096).data == b"b" * 4096
    other.close()
    other_admin.close()


def test_properties(queues: tuple[Queue, Queue]) -> None:
    admin, _ = queues
    assert admin.property(0) & 0xFFFF == 127
    assert admin.property(8) == 0x10400
    admin.set_property(0x14, 0x460001 | 1 << 14)
    assert admin.property(0x1C) == 1 | 2 << 2
    assert admin.set_property(0x1C, 1).status == INVALID_FIELD


@pytest.mark.parametrize("size", [512, 8192, 8704, 131072])
def test_data_comes_back_in_the_capsule_and_beside_it(queues: tuple[Queue, Queue], size: int) -> None:
    _, io = queues
    data = bytes(at * 7 % 251 for at in range(size))
    assert io.write(5, data).status == 0
    assert io.read(5, size // 512).data == data
    assert io.read(4, 1).data == bytes(512)


def test_other_commands_of_io(queues: tuple[Queue, Queue]) -> None:
    _, io = queues
    io.write(0, b"x" * 4096)
    assert io.command(0x00, nsid=1).status == 0
    assert io.command(0x08, nsid=1, words=(2, 0, 1)).status == 0
    assert io.read(0, 8).data == b"x" * 1024 + bytes(1024) + b"x" * 2048
    ranges = struct.pack("<IIQIIQ", 0, 1, 0, 0, 2, 6)
    assert io.command(0x09, nsid=1, words=(1, 4), data=ranges).status == 0
    assert io.read(0, 8).data == bytes(512) + b"x" * 512 + bytes(1024) + b"x" * 1024 + bytes(1024)
    assert io.command(0x09, nsid=1, words=(1, 1), data=ranges).status == 0  # a hint only
    assert io.read(BLOCKS, 1).status == LBA_OUT_OF_RANGE
    assert io.command(0x02, nsid=2, words=(0, 0, 0), expected=512).status == INVALID_NAMESPACE
    assert io.command(0x02, nsid=1, words=(0, 0, 1), expected=512).status == INVALID_FIELD
    assert io.command(0x05, nsid=1).status == INVALID_OPCODE


def test_admin_commands_that_linux_and_its_tools_send(queues: tuple[Queue, Queue]) -> None:
    admin, _ = queues
    assert admin.command(0x09, words=(7, 0x30003)).result == 0x30003
    assert admin.command(0x18).status == 0
    assert len(admin.command(0x02, words=(0x02 | 127 << 16,), expected=512).data) == 512
    assert admin.command(0x02, words=(0xC0,), expected=512).status == INVALID_FIELD
    assert admin.command(0x0A, words=(0x1F,)).status == INVALID_FIELD
    assert admin.command(0x80).status == INVALID_OPCODE  # Format NVM is not offered
    assert admin.security_receive(0, 0, 512).data[7:11] == bytes([3, 0, 1, 2])
    assert admin.security_receive(1, 0x0FFF, 512).status == INVALID_FIELD
    assert admin.security_send(1, 0x0FFF, bytes(512)).status == INVALID_FIELD


def test_ranges_lock_over_the_wire(queues: tuple[Queue, Queue]) -> None:
    admin, io = queues
    host = Host(OverTcp(admin))  # type: ignore[arg-type]
    assert host.take_ownership(PIN) == 0
    assert host.activate(PIN) == 0
    assert host.set_up_range(PIN, 1, 80, 80) == 0
    io.write(80, b"x" * 512)
    assert host.lock(PIN, 1, read=1, write=1) == 0
    assert io.read(80, 1).status == ACCESS_DENIED
    assert io.write(80, b"y" * 512).status == ACCESS_DENIED
    assert io.write(80, b"y" * 16384).status == ACCESS_DENIED
    assert io.read(79, 1).status == 0


def test_power_failure_ends_connections_and_locks(rack: Rack, queues: tuple[Queue, Queue]) -> None:
    admin, io = queues
    other_admin, other = attach(rack.address, rack.names[1])
    host = Host(OverTcp(admin))  # type: ignore[arg-type]
    host.take_ownership(PIN)
    host.activate(PIN)
    host.set_up_range(PIN, 1, 80, 80)
    rack.within(rack.drives[0].power_off)
    with pytest.raises(ConnectionError):
        io.read(0, 1)
    assert other.read(0, 1, 4096).status == 0
    assert Queue(rack.address).connect(rack.names[0]).whole_status == BUSY  # a host tries again
    rack.within(rack.drives[0].power_on)
    again, io = attach(rack.address, rack.names[0])
    assert io.read(80, 1).status == ACCESS_DENIED
    for queue in (again, io, other, other_admin):
        queue.close()


def test_power_fails_with_the_answer_under_way(rack: Rack, queues: tuple[Queue, Queue]) -> None:
    admin, _ = queues
    host = Host(OverTcp(admin))  # type: ignore[arg-type]
    rack.drives[0].tper.orders.cut_after = 5  # MSID is read; SID's PIN is set
    with pytest.raises(ConnectionError):
        host.take_ownership(PIN)
    again, _ = attach(rack.address, rack.names[0])
    assert Host(OverTcp(again)).activate(PIN) == 0  # type: ignore[arg-type]


def test_a_slow_drive_waits_before_each_command(
    rack: Rack, queues: tuple[Queue, Queue], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("appliance.lab.drive.server.asyncio.sleep", wait)
    rack.drives[0].tper.orders.delay = 2.5
    other_admin, other = attach(rack.address, rack.names[1])
    other.read(0, 1, 4096)
    assert waited == []
    queues[1].read(0, 1)
    queues[0].identify(1)
    assert waited == [2.5, 2.5]
    other.close()
    other_admin.close()


@pytest.mark.parametrize(
    ("name", "queue", "controller"),
    [
        ("nqn.2014-08.org.nvmexpress:uuid:none", 0, 0xFFFF),
        (None, 0, 1),
        (None, 1, 0xFFF0),
        (None, 99, None),
    ],
)
def test_nobody_is_connected_to(
    rack: Rack, queues: tuple[Queue, Queue], name: str | None, queue: int, controller: int | None
) -> None:
    wanted = queues[0].controller if controller is None else controller
    done = Queue(rack.address).connect(name or rack.names[0], queue, wanted)
    assert done.whole_status == CONNECT_INVALID


def test_a_controller_goes_with_its_admin_queue(tmp_path: Path) -> None:
    drive = SimulatedDrive(tmp_path / "sed.img", lambda: Profile(size=16 * MIB))
    target = Target({drive.profile.nqn: drive})

    def connect(queue: int, controller: int, host: bytes = b"host") -> int:
        data = bytes(16) + struct.pack("<H", controller) + bytes(238)
        data += drive.profile.nqn.encode().ljust(256, b"\0") + host.ljust(256, b"\0") + bytes(256)
        entry = struct.pack("<BBHI32xI", 0x7F, 0x40, 1, 1, queue << 16).ljust(64, b"\0")
        completion, found = target.connect(Command(entry, data))
        assert (completion.status == 0) is (found is not None)
        if found is not None and queue == 0:
            connected.append(found)
        return completion.status

    connected: list[Controller] = []
    assert connect(0, 0xFFFF) == 0
    assert connect(1, connected[0].identifier) == 0
    assert connect(1, connected[0].identifier, b"another host") == CONNECT_INVALID
    target.forget(connected[0])
    assert connect(1, connected[0].identifier) == CONNECT_INVALID
    assert connect(0, 0xFFFF) == 0
    assert connected[1].identifier != connected[0].identifier
    drive.close()


def test_drives_are_discovered(rack: Rack) -> None:
    queue = Queue(rack.address)
    assert queue.connect(DISCOVERY).status == 0
    assert queue.identify(1).data[111] == 2
    log = queue.command(0x02, words=(0x70 | 767 << 16,), expected=3072).data
    assert struct.unpack_from("<QQ", log)[1] == 2
    entries = [log[1024 * at : 1024 * at + 1024] for at in (1, 2)]
    assert [entry[256:512].rstrip(b"\0").decode() for entry in entries] == rack.names
    assert [entry[32:64].strip().decode() for entry in entries] == [str(rack.address[1])] * 2
    assert queue.command(0x02, words=(0x70, 0, 1024), expected=1024).data == entries[0]
    assert queue.command(0x05).status == INVALID_OPCODE
    queue.close()


HEADER = struct.Struct("<BBBBI")


@pytest.mark.parametrize(
    "bad",
    [
        HEADER.pack(4, 0, 72, 0, 1 << 30),  # a PDU of a gigabyte
        HEADER.pack(4, 0, 72, 0, 7),
        HEADER.pack(4, 0, 72, 200, 72) + bytes(64),  # data behind the end
        HEADER.pack(4, 0, 72, 0, 20) + bytes(12),  # half a command
        HEADER.pack(6, 0, 24, 24, 24) + bytes(16),  # data for nothing
        HEADER.pack(6, 0, 24, 0, 12) + bytes(4),
        HEADER.pack(9, 0, 24, 0, 24) + bytes(16),  # what only drives send
        HEADER.pack(4, 0, 72, 0, 72) + b"\x06" + bytes(63),  # a command before Connect
        HEADER.pack(0, 0, 128, 0, 128) + b"\x01\x00" + bytes(118),  # another format
    ],
)
def test_a_host_that_breaks_the_rules_loses_its_connection_and_nobody_else(
    rack: Rack, queues: tuple[Queue, Queue], bad: bytes
) -> None:
    queue = Queue(rack.address)
    queue.socket.sendall(bad)
    with pytest.raises(ConnectionError):
        queue.receive()
    assert queues[1].read(0, 1).status == 0
    queue.close()
