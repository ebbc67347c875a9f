"""Tokens and atoms of the TCG data stream.

TCG Storage Architecture Core Specification 2.01, section 3.2.2 (Data Stream Encoding); which tokens an
Opal drive must know: TCG Storage Opal SSC 2.30, section 3.3.4.1.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias


class StreamViolation(ValueError):
    """Bytes are no data stream, or one that says nothing a drive could answer."""


class Token(IntEnum):
    """Control tokens."""

    START_LIST = 0xF0
    END_LIST = 0xF1
    START_NAME = 0xF2
    END_NAME = 0xF3
    CALL = 0xF8
    END_OF_DATA = 0xF9
    END_OF_SESSION = 0xFA
    START_TRANSACTION = 0xFB
    END_TRANSACTION = 0xFC
    EMPTY = 0xFF


@dataclass(frozen=True)
class Named:
    """A named value: the name is a number, text or the half of a UID, as the parameter demands."""

    name: int | bytes
    value: Value


Value: TypeAlias = "int | bytes | Named | list[Value]"
Item: TypeAlias = "int | bytes | Token"


@dataclass(frozen=True)
class Call:
    """A method call: the object it is invoked on, the method, and its parameters."""

    invoking: bytes
    method: bytes
    parameters: list[Value]


@dataclass(frozen=True)
class Signal:
    """A token of a session that is no call: its end, or that of a transaction with its status."""

    token: Token
    status: int = 0


def encode(value: Value | str) -> bytes:
    """The shortest spelling of a value.  Text becomes its bytes; numbers are unsigned."""
    if isinstance(value, Named):
        return (
            bytes([Token.START_NAME]) + encode(value.name) + encode(value.value) + bytes([Token.END_NAME])
        )
    if isinstance(value, list):
        return bytes([Token.START_LIST]) + b"".join(map(encode, value)) + bytes([Token.END_LIST])
    if isinstance(value, int):
        length = (value.bit_length() + 7) // 8
        return bytes([value]) if value < 0x40 else bytes([0x80 | length]) + value.to_bytes(length, "big")
    data = value.encode() if isinstance(value, str) else value
    if len(data) < 0x10:
        head = bytes([0xA0 | len(data)])
    elif len(data) < 0x800:
        head = bytes([0xD0 | len(data) >> 8, len(data) & 0xFF])
    else:
        head = b"\xe2" + len(data).to_bytes(3, "big")
    return head + data


def result(values: list[Value], status: int) -> bytes:
    """What a method answers: its results, and the status list."""
    statuses: list[Value] = [status, 0, 0]
    return encode(values) + bytes([Token.END_OF_DATA]) + encode(statuses)


def call(invoking: bytes, method: bytes, values: list[Value], status: int = 0) -> bytes:
    """A call, as the session manager answers with one."""
    return bytes([Token.CALL]) + encode(invoking) + encode(method) + result(values, status)


def read_message(data: bytes) -> Call | Signal:
    """Read the one message of a subpacket.

    Raises:
        StreamViolation: it is not exactly one whole message.
    """
    items = _items(data)
    if not items:
        raise StreamViolation("nothing but empty atoms")
    first = items[0]
    if first is Token.END_OF_SESSION:
        return Signal(Token.END_OF_SESSION)
    if first in {Token.START_TRANSACTION, Token.END_TRANSACTION} and isinstance(first, Token):
        status = items[1] if len(items) > 1 else 0
        if not isinstance(status, int) or isinstance(status, Token):
            raise StreamViolation("a transaction without a status")
        return Signal(first, status)
    if first is not Token.CALL or len(items) < 4:
        raise StreamViolation("neither a call nor the end of something")
    invoking, method = items[1], items[2]
    if not (
        isinstance(invoking, bytes) and isinstance(method, bytes) and len(invoking) == len(method) == 8
    ):
        raise StreamViolation("a call of no UIDs")
    parameters, at = _nested(items, 3)
    if not isinstance(parameters, list) or at >= len(items) or items[at] is not Token.END_OF_DATA:
        raise StreamViolation("a call without a list of parameters and an end")
    status_list, at = _nested(items, at + 1)
    if not isinstance(status_list, list) or len(status_list) != 3 or at != len(items):
        raise StreamViolation("a call without a status list at its end")
    return Call(invoking, method, parameters)


def read_answer(data: bytes) -> tuple[list[Value], int]:
    """Results and status of what a drive answers: to a method, or as a call of the session manager.

    Raises:
        StreamViolation: it is no answer.
    """
    items = _items(data)
    start = 3 if items and items[0] is Token.CALL else 0
    values, at = _nested(items, start)
    if not isinstance(values, list) or at >= len(items) or items[at] is not Token.END_OF_DATA:
        raise StreamViolation("an answer without results and an end")
    statuses, at = _nested(items, at + 1)
    if not isinstance(statuses, list) or not statuses or at != len(items):
        raise StreamViolation("an answer without a status list at its end")
    status = statuses[0]
    if not isinstance(status, int):
        raise StreamViolation("a status that is no number")
    return values, status


def _items(data: bytes) -> list[Item]:
    found: list[Item] = []
    at = 0
    while at < len(data):
        head = data[at]
        if head < 0x40:
            found.append(head)
            at += 1
        elif head < 0x80 or (head < 0xE4 and _signed(head)):
            raise StreamViolation("a signed atom, which an Opal drive need not know")
        elif head < 0xE4:
            value, at = _atom(data, at)
            found.append(value)
        else:
            at += 1
            if head == Token.EMPTY:
                continue
            try:
                found.append(Token(head))
            except ValueError:
                raise StreamViolation(f"a reserved token, {head:#04x}") from None
    return found


def _signed(head: int) -> bool:
    """Whether an atom is a signed number, or goes on in the next one."""
    if head < 0xC0:
        return bool(head & 0x10)
    return bool(head & (0x08 if head < 0xE0 else 0x01))


def _atom(data: bytes, at: int) -> tuple[int | bytes, int]:
    head = data[at]
    if head < 0xC0:
        is_bytes, length, start = bool(head & 0x20), head & 0x0F, at + 1
    elif head < 0xE0:
        is_bytes, start = bool(head & 0x10), at + 2
        length = (head & 0x07) << 8 | int.from_bytes(data[at + 1 : start], "big")
    else:
        is_bytes, start = bool(head & 0x02), at + 4
        length = int.from_bytes(data[at + 1 : start], "big")
    content = data[start : start + length]
    if start > len(data) or len(content) != length:
        raise StreamViolation("an atom longer than its data")
    return (content if is_bytes else int.from_bytes(content, "big")), start + length


def _nested(items: list[Item], at: int, depth: int = 0) -> tuple[Value, int]:
    """One value beginning at an item, and where the next begins."""
    if at >= len(items) or depth > 16:
        raise StreamViolation("an end that is missing")
    item = items[at]
    if not isinstance(item, Token):
        return item, at + 1
    if item is Token.START_LIST:
        values: list[Value] = []
        at += 1
        while at < len(items) and items[at] is not Token.END_LIST:
            value, at = _nested(items, at, depth + 1)
            values.append(value)
        if at >= len(items):
            raise StreamViolation("a list without an end")
        return values, at + 1
    if item is Token.START_NAME:
        name, at = _nested(items, at + 1, depth + 1)
        value, at = _nested(items, at, depth + 1)
        if not isinstance(name, int | bytes) or at >= len(items) or items[at] is not Token.END_NAME:
            raise StreamViolation("a name without a value or an end")
        return Named(name, value), at + 1
    raise StreamViolation(f"{item.name} where a value should be")
