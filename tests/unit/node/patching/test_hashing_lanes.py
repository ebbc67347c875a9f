"""Digests that are computed beside reading: of the bytes that were read, however late a lane is."""

from __future__ import annotations

import hashlib
import random
import threading

import pytest

from appliance.node.remote.hashing_lanes import CHUNK, ROOM, Lanes

DATA = random.Random(91).randbytes(30 * 1000)  # noqa: S311 - the same bytes each time


class Waits:
    """Is told bytes, and looks at them when it may."""

    def __init__(self) -> None:
        self.may, self.told = threading.Event(), b""

    def update(self, data: memoryview) -> None:
        self.may.wait()
        self.told += data


def fill(lanes: Lanes, data: bytes) -> memoryview:
    buffer = lanes.buffer(len(data))
    buffer[:] = data
    return buffer


def test_every_lane_is_told_all_in_order() -> None:
    lanes = Lanes()
    one, other, alone = hashlib.sha256(), hashlib.sha384(), hashlib.sha256()
    for start in range(0, len(DATA), 1000):
        lanes.add(fill(lanes, DATA[start : start + 1000]), one, other)
    lanes.add(fill(lanes, DATA), alone)
    lanes.wait()
    assert one.digest() == alone.digest() == hashlib.sha256(DATA).digest()
    assert other.digest() == hashlib.sha384(DATA).digest()


def test_what_a_late_lane_was_not_told_yet_is_not_written_over() -> None:
    lanes, late, quick = Lanes(), Waits(), hashlib.sha256()
    for number in range(ROOM):
        lanes.add(fill(lanes, bytes([number]) * 10), quick, late)
    threading.Timer(0.05, late.may.set).start()
    lanes.add(fill(lanes, b"more"), quick, late)
    lanes.wait()
    assert late.told == b"".join(bytes([number]) * 10 for number in range(ROOM)) + b"more"


def test_what_cannot_be_hashed_is_told_and_not_waited_for_for_ever() -> None:
    class Fails:
        def update(self, data: memoryview) -> None:
            raise MemoryError

    lanes = Lanes()
    lanes.add(fill(lanes, DATA[:10]), hashlib.sha256(), Fails())
    with pytest.raises(MemoryError):
        lanes.wait()


def test_there_are_no_more_buffers_than_said() -> None:
    lanes, digest, used = Lanes(), hashlib.sha256(), set()
    for number in range(3 * ROOM):
        buffer = fill(lanes, bytes([number]))
        used.add(id(buffer.obj))
        lanes.add(buffer, digest)
    lanes.wait()
    assert len(used) <= ROOM
    assert len(lanes.buffer(CHUNK)) == CHUNK
