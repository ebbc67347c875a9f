"""A host, written apart from the drive: messages as the bytes that Linux's block/sed-opal.c sends.

Nothing of appliance.lab.drive is used to write or read them.  What a kernel does not do (Next, GetACL,
Properties, transactions) is spelled after the same rules.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.lab.drive.interface import SecurityInterface

BUFFER = 2048  # IO_BUFFER_LENGTH
COMID = 0x1000
HOST_SESSION = 0x41  # GENERIC_HOST_SESSION_NUM

SMUID = bytes.fromhex("00000000000000ff")
THIS_SP = bytes.fromhex("0000000000000001")
ADMIN_SP = bytes.fromhex("0000020500000001")
LOCKING_SP = bytes.fromhex("0000020500000002")
ANYBODY = bytes.fromhex("0000000900000001")
SID = bytes.fromhex("0000000900000006")
PSID = bytes.fromhex("000000090001ff01")
C_PIN_SID = bytes.fromhex("0000000b00000001")
C_PIN_MSID = bytes.fromhex("0000000b00008402")
MBR_CONTROL = bytes.fromhex("0000080300000001")
MBR = bytes.fromhex("0000080400000000")
DATA_STORE = bytes.fromhex("0000100100000000")
AUTHORITY_REFERENCE = bytes.fromhex("00000c05")
BOOLEAN_ACE = bytes.fromhex("0000040e")

PROPERTIES, START_SESSION = bytes.fromhex("000000000000ff01"), bytes.fromhex("000000000000ff02")
NEXT, GET_ACL = bytes.fromhex("0000000600000008"), bytes.fromhex("000000060000000d")
GEN_KEY, REVERT_SP = bytes.fromhex("0000000600000010"), bytes.fromhex("0000000600000011")
GET, SET = bytes.fromhex("0000000600000016"), bytes.fromhex("0000000600000017")
AUTHENTICATE, RANDOM = bytes.fromhex("000000060000001c"), bytes.fromhex("0000000600000601")
REVERT, ACTIVATE = bytes.fromhex("0000000600000202"), bytes.fromhex("0000000600000203")
ERASE = bytes.fromhex("0000000600000803")

OK, NOT_AUTHORIZED, SP_BUSY, NO_SESSIONS = 0x00, 0x01, 0x03, 0x07
INVALID_PARAMETER, OVERFLOW, LOCKED_OUT, FAIL = 0x0C, 0x11, 0x12, 0x3F


def admin(number: int) -> bytes:
    return bytes.fromhex(f"000000090001{number:04x}")


def user(number: int) -> bytes:
    return bytes.fromhex(f"000000090003{number:04x}")


def pin_of(authority: bytes) -> bytes:
    return bytes.fromhex("0000000b") + authority[4:]


def locking(number: int) -> bytes:
    return bytes.fromhex(f"000008020003{number:04x}" if number else "0000080200000001")


def ace(number: int) -> bytes:
    return bytes.fromhex(f"00000008{number:08x}")


def atom(value: int | bytes) -> bytes:
    """add_token_u64 and add_token_bytestring."""
    if isinstance(value, int):
        if value < 64:
            return bytes([value])
        length = (value.bit_length() + 7) // 8
        return bytes([0x80 | length]) + value.to_bytes(length, "big")
    if len(value) < 16:
        return bytes([0xA0 | len(value)]) + value
    return bytes([0xD0 | len(value) >> 8, len(value) & 0xFF]) + value


def name(key: int | bytes, value: bytes) -> bytes:
    """A named value; the value is spelled already."""
    return b"\xf2" + atom(key) + value + b"\xf3"


def values(**columns: int | bytes) -> bytes:
    """The parameter Values of Set, columns as c3=…"""
    inner = b"".join(
        name(int(key[1:]), value if key[0] == "r" else atom(value))  # type: ignore[arg-type]
        for key, value in columns.items()
    )
    return name(1, b"\xf0" + inner + b"\xf1")


def compacket(payload: bytes, tsn: int, hsn: int, comid: int = COMID) -> bytes:
    """cmd_finalize."""
    padded = payload + bytes(-len(payload) % 4)
    sub = struct.pack(">6xHI", 0, len(payload)) + padded
    packet = struct.pack(">IIIHHII", tsn, hsn, 0, 0, 0, 0, len(sub)) + sub
    return struct.pack(">IHHIII", 0, comid, 0, 0, 0, len(packet)) + packet


@dataclass
class Answer:
    """What came back: tokens as kernels count them, and the status."""

    tokens: list[Any]
    status: int

    def at(self, place: int) -> Any:
        return self.tokens[place]

    @property
    def columns(self) -> dict[int, Any]:
        """Named columns of a Get, of which none is a list."""
        found = {}
        for place, mark in enumerate(self.tokens):
            if mark == "SN":
                found[self.tokens[place + 1]] = self.tokens[place + 2]
        return found


_MARKS = {
    0xF0: "SL",
    0xF1: "EL",
    0xF2: "SN",
    0xF3: "EN",
    0xF8: "CALL",
    0xF9: "EOD",
    0xFA: "EOS",
    0xFB: "ST",
    0xFC: "ET",
}


def parse(data: bytes) -> list[Any]:
    """response_parse: a flat list of tokens."""
    compacket_length, packet_length = int.from_bytes(data[16:20], "big"), int.from_bytes(data[40:44], "big")
    length = int.from_bytes(data[52:56], "big")
    assert min(compacket_length, packet_length, length) > 0, "the drive has no answer"
    assert compacket_length == packet_length + 24
    body, found, at = data[56 : 56 + length], [], 0
    while at < len(body):
        head = body[at]
        if head < 0x40:
            found.append(head)
            at += 1
        elif 0x80 <= head < 0xC0:
            size, start = head & 15, at + 1
            piece = body[start : start + size]
            found.append(piece if head & 0x20 else int.from_bytes(piece, "big"))
            at = start + size
        elif 0xC0 <= head < 0xE0:
            size, start = (head & 7) << 8 | body[at + 1], at + 2
            found.append(body[start : start + size])
            at = start + size
        elif 0xE0 <= head < 0xE4:
            size, start = int.from_bytes(body[at + 1 : at + 4], "big"), at + 4
            found.append(body[start : start + size])
            at = start + size
        else:
            found.append(_MARKS[head])
            at += 1
    return found


class Host:
    """One kernel before one drive."""

    def __init__(self, drive: SecurityInterface, buffer: int = BUFFER) -> None:
        self.drive = drive
        self.buffer = buffer
        self.tsn = self.hsn = 0

    def exchange(self, payload: bytes, *, tsn: int | None = None, hsn: int | None = None) -> bytes:
        """Send a message and take what comes back."""
        packet = compacket(payload, self.tsn if tsn is None else tsn, self.hsn if hsn is None else hsn)
        self.drive.send(1, COMID, packet.ljust(self.buffer, b"\0"))
        return self.drive.receive(1, COMID, self.buffer)

    def call(self, invoking: bytes, method: bytes, parameters: bytes = b"") -> Answer:
        payload = b"\xf8" + atom(invoking) + atom(method) + b"\xf0" + parameters
        tokens = parse(self.exchange(payload + b"\xf1\xf9\xf0\x00\x00\x00\xf1"))
        assert tokens[-5] == "SL"
        assert tokens[-1] == "EL"
        return Answer(tokens, tokens[-4])

    def start(self, sp: bytes, authority: bytes = ANYBODY, pin: str = "") -> int:
        """Open a session; the status."""
        self.tsn = self.hsn = 0
        parameters = atom(HOST_SESSION) + atom(sp) + b"\x01"
        if authority != ANYBODY:
            parameters += name(0, atom(pin.encode())) + name(3, atom(authority))
        answer = self.call(SMUID, START_SESSION, parameters)
        if answer.status == OK:
            self.hsn, self.tsn = answer.at(4), answer.at(5)
        return answer.status

    def end(self) -> None:
        assert parse(self.exchange(b"\xfa")) == ["EOS"]
        self.tsn = self.hsn = 0

    def get(self, row: bytes, first: int | None = None, last: int | None = None) -> Answer:
        block = (
            b"" if first is None else name(3, atom(first)) + name(4, atom(first if last is None else last))
        )
        return self.call(row, GET, b"\xf0" + block + b"\xf1")

    def set(self, row: bytes, **columns: int | bytes) -> int:
        return self.call(row, SET, values(**columns)).status

    # --- the steps of ioctls ----------------------------------------------------------------------

    def msid(self) -> str:
        assert self.start(ADMIN_SP) == OK
        pin = self.get(C_PIN_MSID, 3).at(4)
        self.end()
        return str(pin, "ascii")

    def take_ownership(self, pin: str) -> int:
        msid = self.msid()
        status = self.start(ADMIN_SP, SID, msid)
        if status == OK:
            status = self.set(C_PIN_SID, c3=pin.encode())
            self.end()
        return status

    def activate(self, pin: str) -> int:
        status = self.start(ADMIN_SP, SID, pin)
        if status == OK:
            status = self.call(LOCKING_SP, ACTIVATE).status
            self.end()
        return status

    def as_admin(self, pin: str) -> Host:
        assert self.start(LOCKING_SP, admin(1), pin) == OK
        return self

    def set_up_range(self, pin: str, number: int, start: int, length: int, enabled: int = 1) -> int:
        self.as_admin(pin)
        status = self.set(locking(number), c3=start, c4=length, c5=enabled, c6=enabled)
        self.end()
        return status

    def lock(self, pin: str, number: int, *, read: int, write: int, who: bytes = admin(1)) -> int:
        status = self.start(LOCKING_SP, who, pin)
        if status == OK:
            status = self.set(locking(number), c7=read, c8=write)
            self.end()
        return status

    def give_range_to(self, pin: str, number: int, who: bytes) -> None:
        """ADD_USR_TO_LR: read and write locks, and since 6.4 the range's attributes."""
        self.as_admin(pin)
        reference = name(AUTHORITY_REFERENCE, atom(who))
        expression = b"\xf0" + reference * 2 + name(BOOLEAN_ACE, b"\x01") + b"\xf1"
        for base in (0x3E000, 0x3E800, 0x3D000):
            assert self.set(ace(base + number), r3=expression) == OK
        self.end()

    def revert(self, authority: bytes, pin: str) -> int:
        status = self.start(ADMIN_SP, authority, pin)
        if status == OK:
            status = self.call(ADMIN_SP, REVERT).status
            self.tsn = self.hsn = 0
        return status
