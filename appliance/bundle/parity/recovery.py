"""Recovery sets at hand: what they cover, and whether they have enough for what is lost.

A parity file may itself be damaged, or somebody else's.  Nothing of it reaches par2 but packets of one
set whose files are the bundle's by name and size; and what par2 makes of them is compared with the
signed list before it is used.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import create_file
from appliance.bundle.parity.packets import RECOVERY, Described, Description, packet_bytes, scan_packets
from appliance.bundle.parity.reading import read_at
from appliance.bundle.parity.sets import MAX_BLOCKS
from appliance.errors import BundleMalformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from appliance.bundle.manifest import ListedFile
    from appliance.bundle.parity.packets import Packet

_CHUNK: Final = 1 << 20
_CHECKSUM: Final = 20  # MD5, then CRC-32
_MD5: Final = 16


@dataclass(frozen=True, eq=False)
class RecoverySet:
    """A set that can be used.

    ``members`` are its files by the name the set knows them by; ``name_of`` gives a member's path in the
    bundle.  ``recovery`` are the packets with recovery blocks in ``source``; ``sound`` says that this
    file is as it was signed.
    """

    title: str
    source: Path
    sound: bool
    description: Description
    members: Mapping[str, Described]
    name_of: Callable[[str], str]
    recovery: Sequence[Packet]

    @property
    def block_size(self) -> int:
        return self.description.block_size

    def blocks(self, member: Described) -> int:
        """How many blocks a member has."""
        return -(-member.size // self.block_size)


def read_set(
    title: str,
    source: Path,
    *,
    sound: bool,
    files: Mapping[str, ListedFile],
    name_of: Callable[[str], str],
) -> RecoverySet | None:
    """The recovery set in a parity file; None if nothing in it can be used.

    Args:
        title: what messages call it.
        source: the file.
        sound: it has its signed digest.
        files: the bundle's files.
        name_of: the path in the bundle of what the set calls so.

    Raises:
        BundleMalformed: the file is as it was signed, but describes other files than the bundle's.
    """
    descriptions: dict[bytes, Description] = {}
    recovery: dict[bytes, dict[int, Packet]] = {}
    fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for packet in scan_packets(fd, sound=sound):
            if packet.kind == RECOVERY:
                recovery.setdefault(packet.set_id, {}).setdefault(packet.exponent, packet)
            else:
                descriptions.setdefault(packet.set_id, Description(packet.set_id)).add(packet)
    finally:
        os.close(fd)
    usable = []
    for set_id, description in descriptions.items():
        members = description.described() or []
        fitting = [packet for packet in recovery.get(set_id, {}).values() if _fits(packet, description)]
        if members and _are_ours(members, description, files, name_of):
            named = {member.path: member for member in members}
            usable.append(RecoverySet(title, source, sound, description, named, name_of, fitting))
    if not usable and sound:
        raise BundleMalformed(
            f"{title} does not describe files of this bundle",
            wanted="names and sizes as they are signed",
            hint="obtain the bundle again; its builder made a mistake",
        )
    return max(usable, key=lambda each: len(each.recovery), default=None)


def _fits(packet: Packet, description: Description) -> bool:
    return packet.length == 64 + 4 + description.block_size


def _are_ours(
    members: Sequence[Described],
    description: Description,
    files: Mapping[str, ListedFile],
    name_of: Callable[[str], str],
) -> bool:
    """Whether every member is a file of the bundle, of its size, once, and there are not too many."""
    paths = [name_of(member.path) for member in members]
    blocks = sum(-(-member.size // description.block_size) for member in members)
    known = all(
        path in files and files[path].size == member.size
        for path, member in zip(paths, members, strict=True)
    )
    return known and len(set(paths)) == len(paths) and blocks <= MAX_BLOCKS


def is_of_this_bundle(parity: RecoverySet, sound: Mapping[str, Path]) -> bool:
    """Whether the set agrees with the first block of a file that is known to be right.

    Another version's parity may have the same names and sizes.
    """
    for member in parity.members.values():
        path = sound.get(parity.name_of(member.path))
        if path is not None:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                return _is_good(_block(fd, member, 0, parity.block_size)[0], member, 0, parity.block_size)
            finally:
                os.close(fd)
    return True


def good_blocks(member: Described, block_size: int, copies: Sequence[Path]) -> tuple[dict[int, int], bool]:
    """Which blocks of a file are right, and in which of its copies; and whether all could be read.

    By CRC-32 alone, as it is quick: par2 compares the MD5 before it uses a block.
    """
    good: dict[int, int] = {}
    readable = True
    for index, copy in enumerate(copies):
        fd = os.open(copy, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for block in range(-(-member.size // block_size)):
                if block not in good:
                    data, lost = _block(fd, member, block, block_size)
                    readable = readable and not lost
                    if not lost and _is_good(data, member, block, block_size):
                        good[block] = index
        finally:
            os.close(fd)
    return good, readable


def _block(fd: int, member: Described, block: int, block_size: int) -> tuple[bytes, int]:
    return read_at(fd, block * block_size, min(block_size, member.size - block * block_size))


def _is_good(data: bytes, member: Described, block: int, block_size: int) -> bool:
    """Whether these are a block's bytes, as far as CRC-32 tells; blocks are filled up with zeros."""
    if len(data) != min(block_size, member.size - block * block_size):
        return False
    wanted = member.blocks[block * _CHECKSUM + _MD5 : (block + 1) * _CHECKSUM]
    found = zlib.crc32(data)
    return zlib.crc32(bytes(block_size - len(data)), found).to_bytes(4, "little") == wanted


def write_packets(parity: RecoverySet, target: Path) -> None:
    """Write the packets of one set, and no other byte of its source, to the new file ``target``."""
    description = parity.description
    source = os.open(parity.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.fdopen(create_file(target), "wb") as file:
            for kind, body in description.critical():
                file.write(packet_bytes(description.set_id, kind, body))
            for packet in parity.recovery:
                for start in range(0, packet.length, _CHUNK):
                    file.write(os.pread(source, min(_CHUNK, packet.length - start), packet.offset + start))
    finally:
        os.close(source)
