"""The data path: blocks by locking range, each encrypted with its range's key.

Locks: TCG Storage Opal SSC 2.30, sections 4.3.5.2 and 4.3.7.  A block that was never written, or was
deallocated, lies as zeros in the image and reads as zeros: no ciphertext is all zeros but by a chance of
one in 2^4096.  So a new key turns into noise what was written, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from appliance.lab.drive.rules import number
from appliance.tcg.uids import (
    MBR,
    MBR_CONTROL,
    KeyColumn,
    LockingColumn,
    MbrColumn,
    locking_range,
    range_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.lab.drive.space import Space
    from appliance.lab.drive.tper import TPer


class AccessDenied(Exception):
    """A range is locked, or the shadow MBR is shown and cannot be written."""


class RangesCrossed(Exception):
    """A command touches several ranges, which this drive does not do."""


class OutOfRange(Exception):
    """Blocks behind the end of the drive."""


@dataclass(frozen=True)
class _Part:
    """Consecutive blocks of one range."""

    first: int
    count: int
    read_locked: bool
    write_locked: bool
    key: bytes | None


class Media:
    """The blocks of a drive.

    Args:
        tper: who knows ranges, locks and keys.
        space: where the blocks lie.
    """

    def __init__(self, tper: TPer, space: Space) -> None:
        self._tper = tper
        self._space = space
        self._size = tper.profile.block_size

    def read(self, first: int, count: int) -> bytes:
        """Blocks as the host may see them.

        Raises:
            AccessDenied, RangesCrossed, OutOfRange: no block is read.
        """
        parts = self._parts(first, count)
        if any(part.read_locked for part in parts):
            shadowed = self._shadow_covers(first, count)
            if not shadowed:
                raise AccessDenied
        if self._shadowed:
            return self._shadow(first, count)
        found = b""
        for part in parts:
            data = self._space.read(part.first * self._size, part.count * self._size)
            found += data if part.key is None else self._crypt(part, data, encrypt=False)
        return found

    def write(self, first: int, data: bytes) -> None:
        """Write whole blocks.

        Raises:
            AccessDenied, RangesCrossed, OutOfRange: no block is written.
        """
        for part in self._writable(first, len(data) // self._size):
            start = (part.first - first) * self._size
            piece = data[start : start + part.count * self._size]
            sealed = piece if part.key is None else self._crypt(part, piece, encrypt=True)
            self._space.write(part.first * self._size, sealed)

    def deallocate(self, first: int, count: int) -> None:
        """Forget blocks; they read as zeros.

        Raises:
            AccessDenied, RangesCrossed, OutOfRange: no block is forgotten.
        """
        for part in self._writable(first, count):
            self._space.clear(part.first * self._size, part.count * self._size)

    def flush(self) -> None:
        """All that was written is on disk."""
        self._space.sync()

    def _writable(self, first: int, count: int) -> list[_Part]:
        parts = self._parts(first, count)
        if self._shadowed or any(part.write_locked for part in parts):
            raise AccessDenied
        return parts

    # --- ranges -----------------------------------------------------------------------------------

    def _parts(self, first: int, count: int) -> list[_Part]:
        if first + count > self._tper.profile.blocks:
            raise OutOfRange
        parts = list(self._split(first, count))
        if len(parts) > 1 and not self._tper.profile.range_crossing:
            raise RangesCrossed
        return parts

    def _split(self, first: int, count: int) -> Iterator[_Part]:
        rows = self._tper.locking.rows
        ranges = []
        if self._tper.active:
            for which in range(1, self._tper.profile.ranges + 1):
                row = rows[locking_range(which)]
                start, length = (
                    number(row, LockingColumn.RANGE_START),
                    number(row, LockingColumn.RANGE_LENGTH),
                )
                ranges.append((start, start + length, which))
        while count:
            inside = [(end, which) for start, end, which in ranges if start <= first < end]
            ahead = [start for start, end, _ in ranges if first < start < end]
            end, which = inside[0] if inside else (first + count, 0)
            taken = min(count, end - first, *(start - first for start in ahead))
            yield self._part(first, taken, which)
            first += taken
            count -= taken

    def _part(self, first: int, count: int, which: int) -> _Part:
        row = self._tper.locking.rows[locking_range(which)]
        key = self._tper.locking.rows.get(range_key(which), {}).get(KeyColumn.KEY)
        active = self._tper.active
        return _Part(
            first,
            count,
            active and bool(row[LockingColumn.READ_LOCK_ENABLED] and row[LockingColumn.READ_LOCKED]),
            active and bool(row[LockingColumn.WRITE_LOCK_ENABLED] and row[LockingColumn.WRITE_LOCKED]),
            key if isinstance(key, bytes) else None,
        )

    # --- keys -------------------------------------------------------------------------------------

    def _crypt(self, part: _Part, data: bytes, *, encrypt: bool) -> bytes:
        """Each block by itself, with its number as the tweak (XTS of IEEE 1619)."""
        algorithm = algorithms.AES(part.key or b"")
        nothing = bytes(self._size)
        found = []
        for at in range(part.count):
            block = data[at * self._size : (at + 1) * self._size]
            if not encrypt and block == nothing:
                found.append(block)
                continue
            cipher = Cipher(algorithm, modes.XTS((part.first + at).to_bytes(16, "little")))
            worker = cipher.encryptor() if encrypt else cipher.decryptor()
            found.append(worker.update(block))
        return b"".join(found)

    # --- the shadow MBR ---------------------------------------------------------------------------

    @property
    def _shadowed(self) -> bool:
        control = self._tper.locking.rows.get(MBR_CONTROL)
        if control is None or not self._tper.active:
            return False
        return bool(control[MbrColumn.ENABLE]) and not control[MbrColumn.DONE]

    def _shadow_covers(self, first: int, count: int) -> bool:
        return self._shadowed and (first + count) * self._size <= self._tper.spaces[MBR].size

    def _shadow(self, first: int, count: int) -> bytes:
        """The table in place of the first blocks, and zeros behind it."""
        space = self._tper.spaces[MBR]
        start, length = first * self._size, count * self._size
        there = max(0, min(length, space.size - start))
        return (space.read(start, there) if there else b"").ljust(length, b"\0")
