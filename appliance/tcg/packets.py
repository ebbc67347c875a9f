"""ComPackets, packets and subpackets: what Security Send and Receive carry of protocol 0x01.

TCG Storage Architecture Core Specification 2.01, section 3.2.3.  One packet with one subpacket per
ComPacket, as Opal SSC 2.30, section 3.3.4.1.2 asks for and every host sends.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_COMPACKET = struct.Struct(
    ">IHHIII"
)  # reserved, ComID, extension, outstanding data, minimum transfer, length
_PACKET = struct.Struct(">IIIHHII")  # TPer's and host's session number, sequence, reserved, ack (2), length
_SUBPACKET = struct.Struct(">6sHI")  # reserved, kind, length

HEADERS = _COMPACKET.size + _PACKET.size + _SUBPACKET.size


class PacketInvalid(ValueError):
    """The headers contradict one another or what they came in."""


@dataclass(frozen=True)
class Packet:
    """What one packet carries, and for which session."""

    comid: int
    tper_session: int
    host_session: int
    payload: bytes


def unpack(data: bytes) -> Packet | None:
    """Read a ComPacket; None for one that carries nothing.

    Raises:
        PacketInvalid: lengths or kinds that cannot be.
    """
    if len(data) < _COMPACKET.size:
        raise PacketInvalid("shorter than a ComPacket's header")
    _, comid, extension, _, _, length = _COMPACKET.unpack_from(data)
    if extension:
        raise PacketInvalid("a ComID extension, which no static ComID has")
    if not length:
        return None
    body = data[_COMPACKET.size : _COMPACKET.size + length]
    if len(body) != length or length < _PACKET.size + _SUBPACKET.size:
        raise PacketInvalid("a ComPacket of another length than it says")
    tper_session, host_session, _, _, _, _, length = _PACKET.unpack_from(body)
    body = body[_PACKET.size : _PACKET.size + length]
    if len(body) != length or length < _SUBPACKET.size:
        raise PacketInvalid("a packet of another length than it says")
    _, kind, length = _SUBPACKET.unpack_from(body)
    payload = body[_SUBPACKET.size : _SUBPACKET.size + length]
    if kind or len(payload) != length:
        raise PacketInvalid("a subpacket that is no data, or of another length than it says")
    return Packet(comid, tper_session, host_session, payload)


def pack(packet: Packet) -> bytes:
    """Write a ComPacket; the payload is padded to a multiple of four."""
    content = packet.payload + bytes(-len(packet.payload) % 4)
    sub = _SUBPACKET.pack(b"", 0, len(packet.payload)) + content
    inner = _PACKET.pack(packet.tper_session, packet.host_session, 0, 0, 0, 0, len(sub)) + sub
    return _COMPACKET.pack(0, packet.comid, 0, 0, 0, len(inner)) + inner


def empty(comid: int, waiting: int = 0) -> bytes:
    """A ComPacket that carries nothing, and says how many bytes wait for a larger buffer."""
    return _COMPACKET.pack(0, comid, 0, waiting, waiting, 0)
