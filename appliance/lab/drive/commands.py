"""Admin and I/O commands of a drive: an entry of the submission queue in, a completion out.

NVM Express Base Specification 1.4, sections 5 and 6; security commands reach the TPer as NVMe binds them
(sections 5.25 and 5.26: protocol in bits 31:24 of Dword 10, what is special in it in bits 23:08).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.lab.drive import identify
from appliance.lab.drive.interface import Refused
from appliance.lab.drive.media import AccessDenied, OutOfRange, RangesCrossed

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.lab.drive.pdu import Command
    from appliance.lab.drive.simulated import SimulatedDrive

# Status: the type in bits 10:8, the code in bits 7:0; Do Not Retry is bit 14.
SUCCESS = 0
_DO_NOT_RETRY = 1 << 14
INVALID_OPCODE = 0x01 | _DO_NOT_RETRY
INVALID_FIELD = 0x02 | _DO_NOT_RETRY
INVALID_NAMESPACE = 0x0B | _DO_NOT_RETRY
LBA_OUT_OF_RANGE = 0x80 | _DO_NOT_RETRY
ACCESS_DENIED = 0x286 | _DO_NOT_RETRY

_LARGEST = 1 << 17  # bytes in one command: MDTS
_QUEUES_FEATURE, _VOLATILE_CACHE, _EVENTS, _KEEP_ALIVE_TIMER = 0x07, 0x06, 0x0B, 0x0F


@dataclass(frozen=True)
class Completion:
    """How a command ends."""

    status: int = SUCCESS
    result: int = 0
    data: bytes = b""


def admin(drive: SimulatedDrive, controller: int, command: Command) -> Completion | None:
    """Carry out an admin command; None for one that is answered when something happens.

    Raises:
        PowerLost: as ordered.
    """
    if command.opcode == 0x0C:  # asynchronous event request: nothing ever happens
        return None
    if command.opcode == 0x06:
        return _identified(drive, controller, command)
    carry_out = _ADMIN.get(command.opcode)
    return Completion(INVALID_OPCODE) if carry_out is None else carry_out(drive, command)


def _identified(drive: SimulatedDrive, controller: int, command: Command) -> Completion:
    structure = command.word(10) & 0xFF
    page: bytes | None = None
    if structure == 0x01:
        page = identify.controller(drive.profile, controller)
    elif structure == 0x02:
        page = identify.active_namespaces(command.namespace)
    elif structure in {0x00, 0x03}:
        if command.namespace != 1:
            return Completion(INVALID_NAMESPACE)
        page = (identify.namespace if structure == 0x00 else identify.descriptors)(drive.profile)
    elif structure == 0x06:
        page = identify.command_set(command.word(11) >> 24)
    if page is None:
        return Completion(INVALID_FIELD)
    return Completion(data=page[: command.data_length])


def _log(_drive: SimulatedDrive, command: Command) -> Completion:
    page = identify.log_page(command.word(10) & 0xFF)
    if page is None:
        return Completion(INVALID_FIELD)
    return Completion(data=page[: command.data_length].ljust(command.data_length, b"\0"))


def _feature(_drive: SimulatedDrive, command: Command) -> Completion:
    which = command.word(10) & 0xFF
    if which == _QUEUES_FEATURE:
        return Completion(result=(identify.IO_QUEUES - 1) * 0x10001)
    if which in {_VOLATILE_CACHE, _EVENTS, _KEEP_ALIVE_TIMER}:
        return Completion(result=int(which == _VOLATILE_CACHE))
    return Completion(INVALID_FIELD)


def _security(drive: SimulatedDrive, command: Command) -> Completion:
    protocol, specific = command.word(10) >> 24, command.word(10) >> 8 & 0xFFFF
    try:
        if command.opcode == 0x81:
            drive.security.send(protocol, specific, command.data)
            return Completion()
        return Completion(data=drive.security.receive(protocol, specific, command.data_length))
    except Refused:
        return Completion(INVALID_FIELD)


def _nothing(_drive: SimulatedDrive, command: Command) -> Completion:
    """Keep Alive; and Abort, which comes too late: bit 0 of its result says so."""
    return Completion(result=int(command.opcode == 0x08))


_ADMIN: dict[int, Callable[[SimulatedDrive, Command], Completion]] = {
    0x02: _log,
    0x08: _nothing,
    0x09: _feature,
    0x0A: _feature,
    0x18: _nothing,
    0x81: _security,
    0x82: _security,
}


def io(drive: SimulatedDrive, command: Command) -> Completion:
    """Carry out a command of an I/O queue."""
    if command.namespace not in {1, 0xFFFFFFFF}:
        return Completion(INVALID_NAMESPACE)
    carry_out = _IO.get(command.opcode)
    if carry_out is None:
        return Completion(INVALID_OPCODE)
    try:
        return carry_out(drive, command)
    except AccessDenied:
        return Completion(ACCESS_DENIED)
    except RangesCrossed:
        return Completion(INVALID_FIELD)
    except OutOfRange:
        return Completion(LBA_OUT_OF_RANGE)


def _blocks(command: Command) -> tuple[int, int]:
    """The first block and how many."""
    return command.word(10) | command.word(11) << 32, (command.word(12) & 0xFFFF) + 1


def _flush(drive: SimulatedDrive, _command: Command) -> Completion:
    drive.media.flush()
    return Completion()


def _write(drive: SimulatedDrive, command: Command) -> Completion:
    first, count = _blocks(command)
    if len(command.data) != count * drive.profile.block_size:
        return Completion(INVALID_FIELD)
    drive.media.write(first, command.data)
    return Completion()


def _read(drive: SimulatedDrive, command: Command) -> Completion:
    first, count = _blocks(command)
    length = count * drive.profile.block_size
    if length > _LARGEST or length != command.data_length:
        return Completion(INVALID_FIELD)
    return Completion(data=drive.media.read(first, count))


def _write_zeroes(drive: SimulatedDrive, command: Command) -> Completion:
    drive.media.deallocate(*_blocks(command))
    return Completion()


def _manage_dataset(drive: SimulatedDrive, command: Command) -> Completion:
    """Dataset Management: deallocate ranges, or take hints that mean nothing here."""
    if not command.word(11) & 4:
        return Completion()
    for at in range((command.word(10) & 0xFF) + 1):
        _, count, first = struct.unpack_from("<IIQ", command.data.ljust(4096, b"\0"), 16 * at)
        if count:
            drive.media.deallocate(first, count)
    return Completion()


_IO: dict[int, Callable[[SimulatedDrive, Command], Completion]] = {
    0x00: _flush,
    0x01: _write,
    0x02: _read,
    0x08: _write_zeroes,
    0x09: _manage_dataset,
}
