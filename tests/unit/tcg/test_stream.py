"""Tokens, packets: spelled as the specification does, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.tcg import packets
from appliance.tcg.packets import Packet, PacketInvalid
from appliance.tcg.stream import (
    Call,
    Named,
    Signal,
    StreamViolation,
    Token,
    encode,
    read_message,
    result,
)
from tests.unit.lab.drive.host import compacket

CALL = bytes.fromhex("f8 a8 00000000000000ff a8 000000000000ff01")


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (0, "00"),
        (63, "3f"),
        (64, "8140"),
        (255, "81ff"),
        (256, "820100"),
        (1 << 63, "888000000000000000"),
        (b"", "a0"),
        (b"\x01" * 15, "af" + "01" * 15),
        (b"\x01" * 16, "d010" + "01" * 16),
        (b"\x01" * 2047, "d7ff" + "01" * 2047),
        (b"\x01" * 2048, "e2000800" + "01" * 2048),
        ("Max", "a34d6178"),
        ([1, [b"a"]], "f001f0a161f1f1"),
        (Named(3, [0]), "f203f000f1f3"),
    ],
)
def test_values_take_the_shortest_atom(value: object, spelled: str) -> None:
    assert encode(value).hex() == spelled  # type: ignore[arg-type]


def test_a_result_ends_with_its_status_list() -> None:
    assert result([[1]], 0x0C).hex() == "f0f001f1f1f9f00c0000f1"


def test_a_call_is_read_whatever_atoms_a_host_chooses() -> None:
    # The number 5 as tiny, short, medium and long atom; an empty atom between any two.
    wide = bytes.fromhex(
        "f0 05 ff 8105 c00105 e000000105 d00161 e200000162 f203f00af1f3 f1 f9 f0000000f1 ff"
    )
    assert read_message(CALL + wide) == Call(
        bytes.fromhex("00000000000000ff"),
        bytes.fromhex("000000000000ff01"),
        [5, 5, 5, 5, b"a", b"b", Named(3, [10])],
    )


@pytest.mark.parametrize(
    ("data", "signal"),
    [
        ("fa", Signal(Token.END_OF_SESSION)),
        ("fb00", Signal(Token.START_TRANSACTION, 0)),
        ("fc01", Signal(Token.END_TRANSACTION, 1)),
    ],
)
def test_signals_are_read(data: str, signal: Signal) -> None:
    assert read_message(bytes.fromhex(data)) == signal


END = "f9f0000000f1"
BAD = {
    "nothing": "",
    "only an empty atom": "ff",
    "a value for a call": "05",
    "a reserved token": "f4",
    "a transaction without a number": "fba161",
    "a call of nothing": "f8",
    "a call of a short UID": "f8 a7 000000000000ff a8 000000000000ff01 f0f1" + END,
    "a call of numbers": "f8 01 02 f0f1" + END,
    "no parameters": CALL.hex() + END,
    "a parameter that is no list": CALL.hex() + "05" + END,
    "an open list": CALL.hex() + "f0 05 f9",
    "a name without an end": CALL.hex() + "f0 f20305 f1" + END,
    "a list for a name": CALL.hex() + "f0 f2f0f105f3 f1" + END,
    "a name without a value": CALL.hex() + "f0 f203f3 f1" + END,
    "no end of data": CALL.hex() + "f0f1 f0000000f1",
    "no status list": CALL.hex() + "f0f1 f9",
    "a short status list": CALL.hex() + "f0f1 f9 f00000f1",
    "something behind its end": CALL.hex() + "f0f1" + END + "00",
    "a signed tiny atom": CALL.hex() + "f0 41 f1" + END,
    "a signed short atom": CALL.hex() + "f0 9101 f1" + END,
    "a signed medium atom": CALL.hex() + "f0 c80101 f1" + END,
    "a signed long atom": CALL.hex() + "f0 e100000101 f1" + END,
    "an atom longer than its data": CALL.hex() + "f0 af00",
    "a medium atom without its length": CALL.hex() + "f0 d0",
    "a long atom without its length": CALL.hex() + "f0 e20000",
    "lists in lists without end": CALL.hex() + "f0" * 40 + "f1" * 40 + END,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_no_message_is_read_from(data: str) -> None:
    with pytest.raises(StreamViolation):
        read_message(bytes.fromhex(data))


# A loaded machine is no fault; the same bytes in every run.
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_violation(data: bytes) -> None:
    try:
        found = read_message(data)
    except StreamViolation:
        return
    assert isinstance(found, Call | Signal)


def test_a_packet_is_as_the_kernel_lays_it_out() -> None:
    packet = Packet(0x1000, 7, 9, b"\xfa")
    assert packets.pack(packet) == compacket(b"\xfa", 7, 9)
    assert packets.unpack(compacket(b"\xfa", 7, 9).ljust(2048, b"\0")) == packet


def test_what_waits_is_told_without_being_given() -> None:
    assert packets.empty(0x1000, 300).hex() == "00000000 10000000 0000012c 0000012c 00000000".replace(
        " ", ""
    )
    assert packets.unpack(packets.empty(0x1000)) is None


GOOD = compacket(b"\xfa", 7, 9)


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:19],
        GOOD[:6] + b"\0\x01" + GOOD[8:],  # a ComID extension
        GOOD[:16] + b"\0\0\x10\0" + GOOD[20:],  # a ComPacket longer than what came
        GOOD[:16] + b"\0\0\0\x08" + GOOD[20:],  # shorter than a packet's header
        GOOD[:40] + b"\0\0\x10\0" + GOOD[44:],  # a packet longer than its ComPacket
        GOOD[:40] + b"\0\0\0\x08" + GOOD[44:],  # shorter than a subpacket's header
        GOOD[:52] + b"\0\0\x10\0" + GOOD[56:],  # a subpacket longer than its packet
        GOOD[:50] + b"\x80\x01" + GOOD[52:],  # credits instead of data
    ],
)
def test_headers_that_contradict_one_another_are_refused(data: bytes) -> None:
    with pytest.raises(PacketInvalid):
        packets.unpack(data)
