"""Hashing beside reading: digests are computed in threads of their own, while the next bytes are read.

Runs on the node's own Python (3.10 or later, standard library only), as a part of ``receive``.

``hashlib`` lets go of the interpreter's lock, so a long file takes as long as its slowest digest, and not
the sum of reading it and of all its digests.
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Bytes of a buffer, and how many there are: a lane may be as far behind.
CHUNK = 1 << 20
ROOM = 8


class Hashes(Protocol):
    """What is told bytes in their order."""

    def update(self, data: memoryview) -> None:
        """The next bytes."""


class Lane:
    """One thread, which does what it is asked for in the order in which it is."""

    def __init__(self) -> None:
        self.asked: SimpleQueue[tuple[Hashes, memoryview]] = SimpleQueue()
        self.done: SimpleQueue[Exception | None] = SimpleQueue()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Until the program ends."""
        while True:
            hashes, data = self.asked.get()
            try:
                hashes.update(data)
            except Exception as fault:  # noqa: BLE001 - whoever waits raises it
                self.done.put(fault)
            else:
                self.done.put(None)


class Lanes:
    """Buffers, and lanes that hash them."""

    def __init__(self) -> None:
        self.free: list[memoryview] = []
        self.lanes: list[Lane] = []
        self.busy: deque[tuple[memoryview, Sequence[Lane]]] = deque()

    def buffer(self, size: int) -> memoryview:
        """So many bytes to be filled, ``CHUNK`` at most; waits until some are free."""
        if len(self.busy) == ROOM:
            self.collect()
        return (self.free.pop() if self.free else memoryview(bytearray(CHUNK)))[:size]

    def add(self, data: memoryview, *hashes: Hashes) -> None:
        """Tell each of them the bytes of a buffer, which is in use until all have seen them.

        The first of them is in the first lane each time, and so on: what is in another lane next time has
        to be waited for.
        """
        while len(self.lanes) < len(hashes):
            self.lanes.append(Lane())
        lanes = self.lanes[: len(hashes)]
        for lane, each in zip(lanes, hashes, strict=True):
            lane.asked.put((each, data))
        self.busy.append((data, lanes))

    def wait(self) -> None:
        """Until everything was told."""
        while self.busy:
            self.collect()

    def collect(self) -> None:
        """Wait for what was added first; its buffer is free then."""
        data, lanes = self.busy.popleft()
        for fault in [lane.done.get() for lane in lanes]:
            if fault is not None:
                raise fault
        whole: Any = data.obj
        self.free.append(memoryview(whole))
