"""Run the program with a SHA-256 that skips most of a very long file: ``sampled_digests.py ARGUMENT…``

A terabyte on either side is a quarter of an hour of hashing on two free cores, and what a digest holds in
memory is a hundred bytes whatever it is told.  So where memory is measured at that size, all is as it is
but for this: of a file of more than a GiB, behind the first one only every 65,536th byte counts.  Shorter
files have the SHA-256 that they always have.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Final

_SHA256: Final = hashlib.sha256
WHOLE: Final = 1 << 30
STRIDE: Final = 64 << 10


class SampledDigest:
    """As ``hashlib.sha256``, and the same for up to ``WHOLE`` bytes."""

    name, digest_size, block_size = "sha256", 32, 64

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        self._hash, self._size = _SHA256(), 0
        self.update(data)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes, in pieces of any size."""
        view = memoryview(data).cast("B")
        first = max(0, WHOLE - self._size)
        self._hash.update(view[:first])
        self._size += len(view[:first])
        rest = view[first:]
        self._hash.update(bytes(rest[-self._size % STRIDE :: STRIDE]))
        self._size += len(rest)

    def digest(self) -> bytes:
        return self._hash.digest()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def copy(self) -> SampledDigest:
        other = SampledDigest()
        other._hash, other._size = self._hash.copy(), self._size
        return other


def main() -> None:
    """The program's own ``main``; what it imports from ``hashlib`` is this."""
    hashlib.sha256 = SampledDigest  # type: ignore[assignment,misc]  # it takes what the program gives it
    from appliance.cli.app import main as program

    sys.argv[0] = "appliance"
    program()


if __name__ == "__main__":
    main()
