"""PAR2 packets: reading and writing them, strictly (Parity Volume Set Specification 2.0).

A PAR2 file is a row of packets, each with its length and MD5, so that those of a damaged file can
still be used one by one.  A recovery set is described by a main packet (block size, identifiers of the
files), two packets for each file (name, size, MD5; then MD5 and CRC-32 of each block), and holds
recovery blocks by their exponents.  MD5 finds damage here; nothing is believed because of it.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from appliance.bundle.parity.reading import read_at
from appliance.bundle.parity.sets import MAX_BLOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"PAR2\0PKT"
MAIN: Final = b"PAR 2.0\0Main\0\0\0\0"
FILE: Final = b"PAR 2.0\0FileDesc"
CHECKSUMS: Final = b"PAR 2.0\0IFSC\0\0\0\0"
RECOVERY: Final = b"PAR 2.0\0RecvSlic"
CREATOR: Final = b"PAR 2.0\0Creator\0"
#: Part of the format: another text would be other bytes.
CREATOR_TEXT: Final = b"appliance, format 1"

#: Magic, length, MD5 of all that follows it, identifier of the set, kind.
_HEADER: Final = struct.Struct("<8sQ16s16s16s")
_HASHED: Final = 32  # where the hashed part begins
_ID: Final = 16
_CHECKSUM: Final = 20  # MD5 and CRC-32 of a block
_DESCRIBED: Final = 56  # a file packet before its name
_MAX_LENGTH: Final = _HEADER.size + 4 + MAX_BLOCK
_CHUNK: Final = 1 << 20
_LEAST_COST: Final = 4096  # of a place that looks like a packet and is none, in bytes read


@dataclass(frozen=True, slots=True)
class Packet:
    """A sound packet: where it lies, and its body; of a recovery packet the first four bytes only."""

    offset: int
    length: int
    set_id: bytes
    kind: bytes
    body: bytes

    @property
    def exponent(self) -> int:
        """Of a recovery packet: which recovery block this is."""
        return int.from_bytes(self.body[:4], "little")


@dataclass(frozen=True, slots=True)
class Described:
    """A file as its set describes it; ``blocks`` are MD5 and CRC-32 (20 bytes) of each block."""

    path: str
    size: int
    blocks: bytes


@dataclass
class Description:
    """What is known of one recovery set: its critical packets, by kind and file, each once."""

    set_id: bytes
    main: bytes | None = None
    files: dict[bytes, bytes] = field(default_factory=dict)
    checksums: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, packet: Packet) -> None:
        """Remember a critical packet of this set; others are passed over."""
        if packet.kind == MAIN and hashlib.md5(packet.body, usedforsecurity=False).digest() == self.set_id:
            self.main = packet.body
        elif packet.kind == FILE:
            self.files.setdefault(packet.body[:_ID], packet.body)
        elif packet.kind == CHECKSUMS:
            self.checksums.setdefault(packet.body[:_ID], packet.body)

    @property
    def block_size(self) -> int:
        """Bytes of a block; 0 if the main packet is lost or malformed."""
        size = int.from_bytes((self.main or b"")[:8], "little")
        return size if size % 4 == 0 and size <= MAX_BLOCK else 0

    def described(self) -> list[Described] | None:
        """The set's files in its own order; None if a packet is lost or contradicts another."""
        if self.main is None or not self.block_size or (len(self.main) - 12) % _ID:
            return None
        identifiers = [self.main[start : start + _ID] for start in range(12, len(self.main), _ID)]
        if int.from_bytes(self.main[8:12], "little") != len(identifiers):
            return None  # files without recovery, which no set of ours has
        found = [self._file(identifier) for identifier in identifiers]
        files = [file for file in found if file is not None]
        return files if len(files) == len(found) else None

    def critical(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and body of each packet that describes the set, in one order for one set."""
        if self.main is None:
            return
        yield MAIN, self.main
        identifiers = [self.main[start : start + _ID] for start in range(12, len(self.main), _ID)]
        yield from ((FILE, self.files[each]) for each in identifiers)
        yield from ((CHECKSUMS, self.checksums[each]) for each in identifiers)

    def _file(self, identifier: bytes) -> Described | None:
        body, sums = self.files.get(identifier), self.checksums.get(identifier)
        if body is None or sums is None or len(body) <= _DESCRIBED:
            return None
        size = int.from_bytes(body[48:56], "little")
        name = body[_DESCRIBED:].rstrip(b"\0")
        signature = body[32:56] + name  # MD5 of the first 16 KiB, length, name
        if hashlib.md5(signature, usedforsecurity=False).digest() != identifier:
            return None
        if not size or len(sums) != _ID + _CHECKSUM * -(-size // self.block_size):
            return None
        return Described(name.decode("latin-1"), size, sums[_ID:])


def packet_bytes(set_id: bytes, kind: bytes, body: bytes) -> bytes:
    """A packet in its one spelling; ``body`` is filled up with zeros to a multiple of four bytes."""
    rest = set_id + kind + body + bytes(-len(body) % 4)
    digest = hashlib.md5(rest, usedforsecurity=False).digest()
    return MAGIC + struct.pack("<Q", _HASHED + len(rest)) + digest + rest


def scan_packets(fd: int, *, sound: bool = False) -> Iterator[Packet]:
    """Every sound packet of a file, in the order they lie there; damaged and foreign bytes are skipped.

    Args:
        fd: the file.
        sound: the file is known to be as it was signed, so the recovery blocks need not be read.
    """
    size = os.fstat(fd).st_size
    search = _Search(fd, size)
    offset = 0
    patience = 4 * size + _MAX_LENGTH  # a hostile file claims a long packet at every byte
    while offset + _HEADER.size <= size:
        packet = _packet_at(fd, offset, size, sound=sound)
        if packet is not None:
            yield packet
            offset += packet.length
            continue
        patience -= max(_claimed(fd, offset, size), _LEAST_COST)
        if patience < 0:
            return
        offset = search.next(offset + 1)


def _packet_at(fd: int, offset: int, size: int, *, sound: bool) -> Packet | None:
    header, _ = read_at(fd, offset, _HEADER.size + 4)
    length = _length(header, offset, size)
    if not length:
        return None
    _, _, digest, set_id, kind = _HEADER.unpack_from(header)
    if kind == RECOVERY and sound:
        return Packet(offset, length, set_id, kind, header[_HEADER.size :])
    data, lost = read_at(fd, offset, length)
    hashed = memoryview(data)[_HASHED:]
    if lost or hashlib.md5(hashed, usedforsecurity=False).digest() != digest:
        return None
    end = _HEADER.size + 4 if kind == RECOVERY else length
    return Packet(offset, length, set_id, kind, data[_HEADER.size : end])


def _length(header: bytes, offset: int, size: int) -> int:
    """The length that a packet claims, 0 if there is none or it cannot have that length."""
    if len(header) < _HEADER.size or header[:8] != MAGIC:
        return 0
    length = int.from_bytes(header[8:16], "little")
    possible = length % 4 == 0 and _HEADER.size <= length <= _MAX_LENGTH and offset + length <= size
    return length if possible else 0


def _claimed(fd: int, offset: int, size: int) -> int:
    return _length(read_at(fd, offset, _HEADER.size)[0], offset, size)


class _Search:
    """Finds where packets may begin, reading each part of the file about once."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = fd, size
        self._start, self._chunk = 0, b""

    def next(self, offset: int) -> int:
        """The first place at ``offset`` or after it; the file's size if there is none."""
        while offset < self._size:
            if not self._start <= offset <= self._start + len(self._chunk) - len(MAGIC):
                self._start, self._chunk = offset, read_at(self._fd, offset, _CHUNK)[0]
            found = self._chunk.find(MAGIC, offset - self._start)
            if found >= 0:
                return self._start + found
            if self._start + len(self._chunk) >= self._size:
                break
            offset = self._start + len(self._chunk) - len(MAGIC) + 1
        return self._size
