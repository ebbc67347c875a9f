"""Captures as scapy, tcpdump's library and QEMU write them; and what is none."""

from __future__ import annotations

import io
import struct

import pytest
from scapy.utils import RawPcapWriter

from appliance.errors import CaptureUnreadable
from appliance.frames.pcap import Frame, read_frames

FRAMES = [
    (b"first frame", 1_700_000_000, 5),
    (b"", 1_700_000_000, 6),
    (b"x" * 1500, 1_700_000_001, 999_999),
]


def capture(*, order: str = "", nanoseconds: bool = False, link: int = 1) -> bytes:
    file = io.BytesIO()
    writer = RawPcapWriter(file, linktype=link, endianness=order, nano=nanoseconds)
    writer.write_header(None)
    for data, seconds, part in FRAMES:
        writer.write_packet(data, sec=seconds, usec=part)
    return file.getvalue()


def frames(data: bytes) -> list[Frame]:
    return list(read_frames(io.BytesIO(data), "port7.pcap"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nanoseconds", [False, True])
def test_whatever_order_and_clock_a_capture_has(order: str, nanoseconds: bool) -> None:
    part = 1 if nanoseconds else 1000
    assert frames(capture(order=order, nanoseconds=nanoseconds)) == [
        Frame(number, seconds * 10**9 + fraction * part, data, len(data))
        for number, (data, seconds, fraction) in enumerate(FRAMES, 1)
    ]


def test_a_frame_that_was_cut_says_how_long_it_was() -> None:
    data = capture()[:24] + struct.pack("=IIII", 1, 2, 3, 1500) + b"abc"
    assert frames(data) == [Frame(1, 10**9 + 2000, b"abc", 1500)]


def test_a_capture_of_nothing_is_empty() -> None:
    assert frames(capture()[:24]) == []


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "an empty file"),
        (b"\xd4\xc3", "d4c3"),
        (bytes.fromhex("0a0d0d0a") + bytes(60), "pcapng"),
        (b"PK\x03\x04", "504b0304"),
        (capture(link=113), "link type 0x71"),  # what `tcpdump -i any` writes
        (capture(link=1 | 0x14000000), "link type 0x14000001"),  # with check sums of four bytes
        (struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 5, 0, 0, 65535, 1), "format 2.5"),
        (capture()[:24] + struct.pack("=IIII", 1, 2, 4, 3) + b"abcd", "frame 1 of 3 bytes, 4"),
        (capture()[:24] + struct.pack("=IIII", 1, 2, 300_000, 300_000) + bytes(300_000), "300000 of them"),
        (capture()[:24] + struct.pack("=IIII", 1, 1_000_000, 0, 0), "1 s + 1000000"),
    ],
)
def test_what_is_no_capture_of_ethernet_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(CaptureUnreadable) as refused:
        frames(data)
    assert found in str(refused.value.found)
    assert "port7.pcap" in refused.value.message


def test_a_capture_that_ends_anywhere_but_after_a_frame_is_refused() -> None:
    whole = capture()
    ends = {24}
    for data, _, _ in FRAMES:
        ends.add(max(ends) + 16 + len(data))
    for end in range(len(whole)):
        if end in ends:
            assert len(frames(whole[:end])) < len(FRAMES)
        else:
            with pytest.raises(CaptureUnreadable):
                frames(whole[:end])


def test_while_it_is_written_the_frame_at_its_end_has_yet_to_come() -> None:
    whole = capture()
    for end in range(24, len(whole)):
        found = list(read_frames(io.BytesIO(whole[:end]), "port7.pcap", growing=True))
        assert found == frames(whole)[: len(found)]
        assert len(found) < len(FRAMES)
