"""Packets: one symbol in one datagram, with a tag that screens garbage."""

from __future__ import annotations

import hashlib
import struct

import pytest

from appliance.export.packet import (
    HEADER_BYTES,
    MAX_CODED,
    MAX_DATAGRAM,
    TAG_BYTES,
    CodedId,
    Packet,
    PacketKind,
    node_of,
    packet_bytes,
    parse_packet,
    repair_symbols,
)
from appliance.export.refusal import RefusedError, Why

KEY = bytes(range(32))
NODE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
CODED = CodedId(PacketKind.BLOCK, NODE, 3, 77, b"markmark", 2000)
PACKET = Packet(CODED, 4, 1, bytes(1000))
HEADER = struct.Struct(">2sBB8sIQ8sIBBBB")
FIELDS = (b"AX", 1, 1, NODE, 3, 77, b"markmark", 2000, 2, 4, 1, 0)


def tagged(header: bytes, symbol: bytes, key: bytes = KEY) -> bytes:
    """A datagram as docs/export.md says, made without the module."""
    digest = hashlib.blake2b(header + symbol, digest_size=16, key=key, person=b"appliance-packet")
    return header + digest.digest() + symbol


def test_the_layout_is_the_specified_one() -> None:
    assert packet_bytes(PACKET, KEY) == tagged(HEADER.pack(*FIELDS), bytes(1000))
    assert HEADER_BYTES == 40


def test_a_packet_is_read_as_it_was_written() -> None:
    assert parse_packet(packet_bytes(PACKET, KEY), KEY) == PACKET
    assert node_of(packet_bytes(PACKET, KEY)) == NODE


@pytest.mark.parametrize(
    ("length", "source", "size"),
    [
        (1, 1, 8),
        (8, 1, 8),
        (9, 1, 16),
        (1400, 1, 1400),
        (1401, 2, 704),
        (4200, 3, 1400),
        (89_600, 64, 1400),
    ],
)
def test_the_symbols_of_a_length_are_as_few_and_then_as_short_as_can_be(
    length: int, source: int, size: int
) -> None:
    coded = CodedId(PacketKind.BLOCK, NODE, 0, 0, b"", length)
    assert (coded.source_symbols, coded.symbol_bytes) == (source, size)


def test_no_datagram_is_longer_than_what_an_ethernet_frame_holds() -> None:
    longest = max(
        CodedId(PacketKind.BLOCK, NODE, 0, 0, b"", length).symbol_bytes
        for length in range(1, MAX_CODED + 1)
    )
    assert HEADER_BYTES + TAG_BYTES + longest <= MAX_DATAGRAM == 1500 - 20 - 8


@pytest.mark.parametrize(
    ("source", "percent", "repair"), [(1, 20, 4), (20, 20, 4), (21, 20, 5), (64, 20, 13), (64, 0, 4)]
)
def test_there_are_four_repair_symbols_or_a_share(source: int, percent: int, repair: int) -> None:
    assert repair_symbols(source, percent) == repair


def changed(place: int, value: object) -> bytes:
    fields = list(FIELDS)
    fields[place] = value  # type: ignore[call-overload] # each of its own kind
    return tagged(HEADER.pack(*fields), bytes(1000))


GOOD = packet_bytes(PACKET, KEY)
REFUSED = {
    "nothing": (b"", Why.NOT_OURS),
    "no symbol": (GOOD[:56], Why.NOT_OURS),
    "longer than a frame": (GOOD + bytes(1000), Why.NOT_OURS),
    "another protocol": (b"XX" + GOOD[2:], Why.NOT_OURS),
    "another version": (changed(1, 2), Why.NOT_OURS),
    "another key": (tagged(HEADER.pack(*FIELDS), bytes(1000), bytes(32)), Why.TAG_FORGED),
    "no tag": (GOOD[:40] + bytes(16) + GOOD[56:], Why.TAG_FORGED),
    "a shorter symbol": (GOOD[:-1], Why.TAG_FORGED),
    "an unknown kind": (changed(2, 4), Why.IMPOSSIBLE),
    "no length": (changed(7, 0), Why.IMPOSSIBLE),
    "too great a length": (changed(7, MAX_CODED + 1), Why.IMPOSSIBLE),
    "another k": (changed(8, 3), Why.IMPOSSIBLE),
    "a symbol of another length": (tagged(HEADER.pack(*FIELDS), bytes(1008)), Why.IMPOSSIBLE),
    "more symbols than numbers": (changed(9, 255), Why.IMPOSSIBLE),
    "a symbol beyond the last": (changed(10, 6), Why.IMPOSSIBLE),
    "a byte that is not zero": (changed(11, 1), Why.IMPOSSIBLE),
}


@pytest.mark.parametrize(("datagram", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_packet_is_refused_with_its_cause(datagram: bytes, why: Why) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_packet(datagram, KEY)
    assert caught.value.why is why


def test_every_flipped_bit_is_noticed() -> None:
    datagram = packet_bytes(
        Packet(CodedId(PacketKind.BLOCK, NODE, 3, 77, b"m" * 8, 16), 4, 1, bytes(16)), KEY
    )
    for bit in range(len(datagram) * 8):
        damaged = bytearray(datagram)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RefusedError):
            parse_packet(bytes(damaged), KEY)
