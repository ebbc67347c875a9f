"""An NVMe/TCP host, written apart from the controller: as much of Linux's nvme-tcp as tests need."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

HOST_NQN = b"nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
DISCOVERY = "nqn.2014-08.org.nvmexpress.discovery"
ACCESS_DENIED = 0x286
IN_CAPSULE = 8192


@dataclass
class Done:
    """A completion: status without and with Do Not Retry, result, and data that came before it."""

    status: int
    whole_status: int
    result: int
    data: bytes


class Queue:
    """One connection: queue 0 for admin commands, others for I/O."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=30)
        self.identifier = 0
        self.controller = 0
        body = struct.pack("<HBBI", 0, 0, 0, 0).ljust(120, b"\0")
        self.socket.sendall(struct.pack("<BBBBI", 0, 0, 128, 0, 128) + body)
        header, body = self.receive()
        assert header[0] == 1
        self.largest = int.from_bytes(body[4:8], "little")

    def receive(self) -> tuple[bytes, bytes]:
        header = self._exactly(8)
        return header, self._exactly(int.from_bytes(header[4:8], "little") - 8)

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            more = self.socket.recv(count - len(found))
            if not more:
                raise ConnectionResetError
            found += more
        return found

    def command(  # a submission queue entry as nvme_init_request and the drivers fill it
        self,
        opcode: int,
        *,
        nsid: int = 0,
        words: tuple[int, ...] = (),
        data: bytes = b"",
        expected: int = 0,
        kind: int = 0,
        in_capsule: bool = True,
    ) -> Done:
        self.identifier = self.identifier % 0xFFFF + 1
        length = len(data) or expected
        descriptor = struct.pack("<QI3xB", 0, length, 0x01 if data and in_capsule else 0x5A)
        entry = struct.pack("<BBHI16x", opcode, 0x40, self.identifier, kind or nsid) + descriptor
        entry += struct.pack("<6I", *words, *[0] * (6 - len(words)))
        inline = data if in_capsule else b""
        size = 72 + len(inline)
        self.socket.sendall(struct.pack("<BBBBI", 4, 0, 72, 72 if inline else 0, size) + entry + inline)
        return self._completion(data)

    def _completion(self, data: bytes) -> Done:
        found = b""
        while True:
            header, body = self.receive()
            if header[0] == 9:
                identifier, tag, offset, length = struct.unpack_from("<HHII", body)
                assert identifier == self.identifier
                for at in range(offset, offset + length, self.largest):
                    piece = data[at : min(at + self.largest, offset + length)]
                    fields = struct.pack("<HHII4x", identifier, tag, at, len(piece))
                    self.socket.sendall(
                        struct.pack("<BBBBI", 6, 4, 24, 24, 24 + len(piece)) + fields + piece
                    )
            elif header[0] == 7:
                identifier, _, offset, length = struct.unpack_from("<HHII", body)
                assert (identifier, offset) == (self.identifier, len(found))
                found += body[16 : 16 + length]
            else:
                assert header[0] == 5
                result, _, _, identifier, status = struct.unpack("<QHHHH", body)
                assert identifier == self.identifier
                return Done(status >> 1 & 0x7FF, status >> 1, result, found)

    def connect(self, name: str, queue: int = 0, controller: int = 0xFFFF) -> Done:
        data = bytes(16) + struct.pack("<H", controller) + bytes(238)
        data += name.encode().ljust(256, b"\0") + HOST_NQN.ljust(256, b"\0") + bytes(256)
        done = self.command(0x7F, kind=1, words=(queue << 16, 127), data=data)
        self.controller = done.result & 0xFFFF
        return done

    def property(self, offset: int) -> int:
        return self.command(0x7F, kind=4, words=(1, offset)).result

    def set_property(self, offset: int, value: int) -> Done:
        return self.command(0x7F, kind=0, words=(0, offset, value))

    def identify(self, structure: int, nsid: int = 0) -> Done:
        return self.command(0x06, nsid=nsid, words=(structure,), expected=4096)

    def security_send(self, protocol: int, specific: int, data: bytes) -> Done:
        words = (protocol << 24 | specific << 8, len(data))
        return self.command(0x81, words=words, data=data, in_capsule=len(data) <= IN_CAPSULE)

    def security_receive(self, protocol: int, specific: int, length: int) -> Done:
        return self.command(0x82, words=(protocol << 24 | specific << 8, length), expected=length)

    def read(self, first: int, count: int, size: int = 512) -> Done:
        words = (first & 0xFFFFFFFF, first >> 32, count - 1)
        return self.command(0x02, nsid=1, words=words, expected=count * size)

    def write(self, first: int, data: bytes, size: int = 512) -> Done:
        words = (first & 0xFFFFFFFF, first >> 32, len(data) // size - 1)
        return self.command(0x01, nsid=1, words=words, data=data, in_capsule=len(data) <= IN_CAPSULE)

    def close(self) -> None:
        self.socket.close()


class OverTcp:
    """The security commands of a queue, as the tests' host of TCG messages wants them."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def send(self, protocol: int, specific: int, data: bytes) -> None:
        assert self.queue.security_send(protocol, specific, data).status == 0

    def receive(self, protocol: int, specific: int, length: int) -> bytes:
        done = self.queue.security_receive(protocol, specific, length)
        assert done.status == 0
        return done.data


def attach(address: tuple[str, int], name: str) -> tuple[Queue, Queue]:
    """An admin and an I/O queue of a drive, its controller enabled."""
    admin = Queue(address)
    assert admin.connect(name).status == 0
    assert admin.set_property(0x14, 0x460001).status == 0
    assert admin.property(0x1C) & 1
    queue = Queue(address)
    assert queue.connect(name, 1, admin.controller).status == 0
    return admin, queue
