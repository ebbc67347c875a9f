"""What goes over a connection: PDUs of the NVMe/TCP Transport Specification 1.0.

Little-endian all of it.  Digests are offered to nobody, so no PDU has one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

IC_REQUEST, IC_RESPONSE, H2C_TERMINATE, C2H_TERMINATE = 0x00, 0x01, 0x02, 0x03
COMMAND, RESPONSE, H2C_DATA, C2H_DATA, READY = 0x04, 0x05, 0x06, 0x07, 0x09

HEADER = struct.Struct("<BBBBI")  # type, flags, header length, data offset, PDU length
_LAST = 0x04
LARGEST_H2C_DATA = 1 << 17
LARGEST = LARGEST_H2C_DATA + 1024  # bytes of a PDU that a host may send
COMMAND_SIZE = 64


class PduInvalid(ValueError):
    """A host breaks the transport's rules; its connection ends."""


@dataclass(frozen=True)
class Header:
    """The first eight bytes of every PDU."""

    kind: int
    data_offset: int
    length: int

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Read it.

        Raises:
            PduInvalid: lengths that cannot be.
        """
        kind, _, _, data_offset, length = HEADER.unpack(data)
        if not HEADER.size <= length <= LARGEST or data_offset > length:
            raise PduInvalid(f"a PDU of {length} bytes with data at {data_offset}")
        return cls(kind, data_offset, length)


def initial_response(request: bytes) -> bytes:
    """ICResp to an ICReq; without its header.

    Raises:
        PduInvalid: another format than 1.0 is wanted.
    """
    if len(request) < 120 or request[0] or request[1]:
        raise PduInvalid("a connection of an unknown format")
    body = struct.pack("<HBBI", 0, 0, 0, LARGEST_H2C_DATA).ljust(120, b"\0")
    return HEADER.pack(IC_RESPONSE, 0, 128, 0, 128) + body


@dataclass(frozen=True)
class Command:
    """A submission queue entry, and the data that came in its capsule."""

    entry: bytes
    data: bytes

    @property
    def opcode(self) -> int:
        return self.entry[0]

    @property
    def identifier(self) -> int:
        return int.from_bytes(self.entry[2:4], "little")

    @property
    def namespace(self) -> int:
        return int.from_bytes(self.entry[4:8], "little")

    @property
    def data_length(self) -> int:
        """Bytes that the SGL descriptor speaks of."""
        return int.from_bytes(self.entry[32:36], "little")

    @property
    def from_host(self) -> bool:
        """Whether data goes to the drive: bits 1:0 of the opcode, of fabrics commands of their type."""
        which = self.entry[4] if self.opcode == FABRICS else self.opcode
        return which & 3 == 1

    def word(self, number: int) -> int:
        """Command Dword 10 to 15."""
        return int.from_bytes(self.entry[4 * number : 4 * number + 4], "little")


FABRICS = 0x7F


def parse_command(header: Header, body: bytes) -> Command:
    """A command capsule; body is all behind the header.

    Raises:
        PduInvalid: it is too short.
    """
    if len(body) < COMMAND_SIZE:
        raise PduInvalid("a capsule without a whole command")
    data = body[header.data_offset - HEADER.size :] if header.data_offset else b""
    return Command(body[:COMMAND_SIZE], data)


@dataclass(frozen=True)
class HostData:
    """Data for a command, as R2T asked for."""

    tag: int
    offset: int
    data: bytes


def parse_data(header: Header, body: bytes) -> HostData:
    """An H2CData PDU; body is all behind the header.

    Raises:
        PduInvalid: it is too short.
    """
    if len(body) < 16 or header.data_offset < 24:
        raise PduInvalid("data without a whole header")
    _, tag, offset, length = struct.unpack_from("<HHII", body)
    start = header.data_offset - HEADER.size
    data = body[start : start + length]
    if len(data) != length:
        raise PduInvalid("less data than the header says")
    return HostData(tag, offset, data)


def ready(command: Command, tag: int) -> bytes:
    """R2T: the host may send all data of a command."""
    fields = struct.pack("<HHII4x", command.identifier, tag, 0, command.data_length)
    return HEADER.pack(READY, 0, 24, 0, 24) + fields


def data_to_host(command: Command, data: bytes) -> bytes:
    """C2HData: all data of a command."""
    fields = struct.pack("<HHII4x", command.identifier, 0, 0, len(data))
    return HEADER.pack(C2H_DATA, _LAST, 24, 24, 24 + len(data)) + fields + data


def response(command: Command, queue: int, head: int, status: int, result: int = 0) -> bytes:
    """A response capsule: the completion queue entry."""
    entry = struct.pack("<QHHHH", result, head, queue, command.identifier, status << 1)
    return HEADER.pack(RESPONSE, 0, 24, 0, 24) + entry
