"""Frames out of a capture file: libpcap's own format, as tcpdump and QEMU write it (pcap-savefile(5)).

Strict, because what a file does not hold cannot be judged: one that ends in the middle of a frame, or
holds something else than Ethernet frames, is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from appliance.errors import CaptureUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterator

#: First four bytes as a number -> parts of a second that times are written in.
_MAGIC: Final = {0xA1B2C3D4: 1_000_000, 0xA1B23C4D: 1_000_000_000}
_PCAPNG: Final = bytes.fromhex("0a0d0d0a")
_HEADER, _RECORD = "HHiIII", "IIII"
#: The link type, where no other bit says that frames end in check sums.
_ETHERNET: Final = 1
#: What libpcap itself takes for the longest frame.
_LONGEST: Final = 262_144
_NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True)
class Frame:
    """One frame of a capture.

    Args:
        number: its place in the file, from 1.
        nanoseconds: when it was seen, since 1970, by the clock of who captured it.
        data: its bytes, from the destination's address on, without a check sum.
        length: how many bytes it had; more than ``data`` where the capture cut it short.
    """

    number: int
    nanoseconds: int
    data: bytes
    length: int


def read_frames(file: BinaryIO, name: str, *, growing: bool = False) -> Iterator[Frame]:
    """The frames of a capture, in order.

    Args:
        file: open for reading bytes, at its beginning.
        name: what the errors call it.
        growing: somebody still writes to it, so a frame that is not whole at its end has yet to come.

    Raises:
        CaptureUnreadable: it is no capture of this format, or ends in the middle of a frame.
    """
    order, parts = _begin(file, name)
    record = struct.Struct(order + _RECORD)
    number = 0
    while head := file.read(record.size):
        number += 1
        if len(head) < record.size:
            if growing:
                return
            raise _cut(name, number)
        seconds, fraction, kept, length = record.unpack(head)
        if kept > min(length, _LONGEST) or fraction >= parts:
            raise CaptureUnreadable(
                f"{name} is damaged",
                found=f"frame {number} of {length} bytes, {kept} of them kept, at {seconds} s + {fraction}",
                wanted=f"at most as many bytes as it had and {_LONGEST}, and a part of a second",
                hint="capture again",
            )
        data = file.read(kept)
        if len(data) < kept:
            if growing:
                return
            raise _cut(name, number)
        yield Frame(number, seconds * _NANOSECONDS + fraction * (_NANOSECONDS // parts), data, length)


def _begin(file: BinaryIO, name: str) -> tuple[str, int]:
    """The byte order of a file's numbers, and into how many parts it divides a second."""
    magic = file.read(4)
    for order in "<>":
        parts = _MAGIC.get(struct.unpack(f"{order}I", magic)[0]) if len(magic) == 4 else None  # noqa: PLR2004
        if parts:
            break
    else:
        raise CaptureUnreadable(
            f"{name} is no capture",
            found="pcapng" if magic == _PCAPNG else magic.hex() or "an empty file",
            wanted="libpcap's own format, as `tcpdump -w` writes it",
            hint="editcap -F pcap OLD NEW" if magic == _PCAPNG else "name the file of a capture",
        )
    header = struct.Struct(order + _HEADER)
    data = file.read(header.size)
    if len(data) < header.size:
        raise _cut(name, 0)
    major, minor, _, _, _, link = header.unpack(data)
    if (major, minor, link) != (2, 4, _ETHERNET):
        raise CaptureUnreadable(
            f"{name} holds no plain Ethernet frames",
            found=f"format {major}.{minor}, link type {link:#x}",
            wanted="format 2.4, link type 1: Ethernet without check sums",
            hint="capture on the wire itself (`tcpdump -i PORT -w FILE`), not on `any`",
        )
    return order, parts


def _cut(name: str, number: int) -> CaptureUnreadable:
    return CaptureUnreadable(
        f"{name} ends in the middle of {f'frame {number}' if number else 'its beginning'}",
        wanted="a capture that was written to its end",
        hint="stop what captures before you read the file; if its disk was full, capture again",
    )
