"""What of a file lies in the base just where it lay: both are read once, side by side, and hashed then.

A fine-tune leaves most tensors where they were.  Comparing finds those at the speed of memory, and nothing
has to be cut or looked up for them (``appliance.bundle.patch.matching`` does that with the rest).  Each of
the two digests is computed in a thread of its own, since ``hashlib`` lets go of the interpreter's lock.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.patch.chunks import require_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from typing import Self

    from appliance.bundle.patch.chunks import Hashed
    from appliance.bundle.patch.whole import WholeFile

#: Bytes that are compared at once, and how many of these a thread may be behind.
STEP: Final = 1 << 20
_BEHIND: Final = 4


@dataclass(slots=True)
class InPlace:
    """Ranges of a file that the base has at the same positions, in whole steps; two numbers for each."""

    numbers: array[int] = field(default_factory=lambda: array("q"))
    size: int = 0

    def add(self, start: int, end: int) -> None:
        """One range more, behind those that there are."""
        if self.numbers and self.numbers[-1] == start:
            self.numbers[-1] = end
        else:
            self.numbers.extend((start, end))
        self.size += end - start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Start and end of each."""
        return zip(self.numbers[::2], self.numbers[1::2], strict=True)

    def others(self, size: int) -> Iterator[tuple[int, int]]:
        """What lies between them in a file of so many bytes: start and end of each gap."""
        start = 0
        for here, end in self:
            if start < here:
                yield start, here
            start = end
        if start < size:
            yield start, size


def compare(file: WholeFile, base: WholeFile, wanted: str, hashed: Hashed) -> InPlace:
    """Read both to their ends.

    Args:
        file: open.
        base: open.
        wanted: the SHA-256 (hex) that the base must have.
        hashed: told every byte of the file, in order; in a thread.

    Raises:
        DigestMismatch: the base has another; or one of them cannot be read.
    """
    found, digest = InPlace(), hashlib.sha256()
    with _Lane(hashed) as ours, _Lane(digest.update) as theirs:
        for start in range(0, max(file.size, base.size), STEP):
            one, other = ours.read(file, start), theirs.read(base, start)
            if one == other:
                found.add(start, start + len(one))
        ours.finish()
        theirs.finish()
    require_digest(base, digest.hexdigest(), wanted)
    return found


class _Lane:
    """Reads one file into buffers, and has them hashed in a thread; to be used in a ``with`` statement."""

    def __init__(self, hashed: Hashed) -> None:
        self._hashed = hashed
        self._pool = ThreadPoolExecutor(1)
        self._busy: deque[tuple[Future[object], bytearray]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def read(self, file: WholeFile, start: int) -> bytearray:
        """The next bytes of a file, at most ``STEP``; they are valid until the next are asked for."""
        size = max(0, min(STEP, file.size - start))
        buffer = self._next() if len(self._busy) == _BEHIND else bytearray(STEP)
        del buffer[size:]
        file.read_into(start, memoryview(buffer))
        self._busy.append((self._pool.submit(self._hashed, buffer), buffer))
        return buffer

    def finish(self) -> None:
        """Wait until everything is hashed."""
        while self._busy:
            self._next()

    def _next(self) -> bytearray:
        future, buffer = self._busy.popleft()
        future.result()
        return buffer
