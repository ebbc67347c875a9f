"""What a controller tells of itself and its namespace: Identify data structures and log pages.

Offsets: NVM Express Base Specification 1.4, sections 5.15 (Identify) and 5.14 (Get Log Page); of fabrics:
NVM Express over Fabrics 1.1.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.lab.drive.profile import Profile

PAGE = 4096
VERSION = 0x00010400
QUEUE_ENTRIES = 128
IO_QUEUES = 4
IN_CAPSULE = 8192  # bytes of data in the capsule of a command
_VENDOR = 0x1B36
_MDTS = 5  # 2^5 pages of 4 KiB in one command
_SECURITY = 1 << 0  # OACS: Security Send and Receive
_DATASET_MANAGEMENT, _WRITE_ZEROES = 1 << 2, 1 << 3  # ONCS
_SGL, _SGL_OFFSET = 1 << 0, 1 << 20
_ZEROES_WHEN_DEALLOCATED = 1  # DLFEAT
_IO_CONTROLLER, _DISCOVERY_CONTROLLER = 1, 2
_EUI64, _NGUID, _UUID = 1, 2, 3  # Namespace Identifier Types


def controller(profile: Profile, identifier: int) -> bytes:
    """Identify Controller (CNS 01h)."""
    page = bytearray(PAGE)
    struct.pack_into("<HH", page, 0, _VENDOR, _VENDOR)
    page[4:24] = profile.serial.encode().ljust(20)[:20]
    page[24:64] = profile.model.encode().ljust(40)[:40]
    page[64:72] = profile.firmware.encode().ljust(8)[:8]
    page[77] = _MDTS
    struct.pack_into("<HI", page, 78, identifier, VERSION)
    page[111] = _IO_CONTROLLER
    struct.pack_into("<H", page, 256, _SECURITY)
    page[258] = 3  # aborts at once, from 0
    page[259] = 3  # event requests at once, from 0
    page[260] = 2 | 1  # one firmware slot, which cannot be written
    page[262] = 7  # entries of the error log, from 0
    struct.pack_into("<H", page, 320, 10)  # keep-alive in units of 100 ms
    page[512], page[513] = 0x66, 0x44  # entries of 64 and 16 bytes
    struct.pack_into("<HI", page, 514, QUEUE_ENTRIES, 1)
    struct.pack_into("<H", page, 520, _DATASET_MANAGEMENT | _WRITE_ZEROES)
    page[525] = 1  # a volatile write cache
    struct.pack_into("<I", page, 536, _SGL | _SGL_OFFSET)
    page[768:1024] = profile.nqn.encode().ljust(256, b"\0")
    struct.pack_into("<IIHBB", page, 1792, (64 + IN_CAPSULE) // 16, 1, 0, 0, 1)
    return bytes(page)


def namespace(profile: Profile) -> bytes:
    """Identify Namespace (CNS 00h) of namespace 1."""
    page = bytearray(PAGE)
    struct.pack_into("<QQQ", page, 0, profile.blocks, profile.blocks, profile.blocks)
    page[33] = _ZEROES_WHEN_DEALLOCATED
    page[104:120], page[120:128] = _nguid(profile), _eui64(profile)
    struct.pack_into("<HBB", page, 128, 0, profile.block_size.bit_length() - 1, 0)
    return bytes(page)


def descriptors(profile: Profile) -> bytes:
    """Namespace Identification Descriptor list (CNS 03h)."""
    page = b""
    for kind, name in (
        (_EUI64, _eui64(profile)),
        (_NGUID, _nguid(profile)),
        (_UUID, uuid.UUID(profile.identifier).bytes),
    ):
        page += bytes([kind, len(name), 0, 0]) + name
    return page.ljust(PAGE, b"\0")


def active_namespaces(behind: int) -> bytes:
    """Active Namespace ID list (CNS 02h) of those above a number."""
    return (struct.pack("<I", 1) if behind < 1 else b"").ljust(PAGE, b"\0")


def command_set(which: int) -> bytes | None:
    """What the NVM command set adds (CNS 06h); None for other command sets."""
    return bytes(PAGE) if which == 0 else None


def discovery_controller(identifier: int) -> bytes:
    """Identify Controller of the discovery controller."""
    page = bytearray(PAGE)
    page[4:24], page[24:64] = b"DISCOVERY".ljust(20), b"Simulated Opal drives".ljust(40)
    page[64:72] = b"SIM1.0  "
    page[77] = _MDTS
    struct.pack_into("<HI", page, 78, identifier, VERSION)
    page[111] = _DISCOVERY_CONTROLLER
    struct.pack_into("<H", page, 320, 10)
    struct.pack_into("<H", page, 514, QUEUE_ENTRIES)
    struct.pack_into("<I", page, 536, _SGL | _SGL_OFFSET)
    page[768:1024] = DISCOVERY_NQN.encode().ljust(256, b"\0")
    return bytes(page)


DISCOVERY_NQN = "nqn.2014-08.org.nvmexpress.discovery"


def discovery_log(names: list[str], address: str, port: int) -> bytes:
    """The Discovery Log Page: one entry per drive; NVM Express over Fabrics 1.1."""
    family = 2 if ":" in address else 1
    entries = b""
    for name in names:
        entry = bytearray(1024)
        # TCP, family, NVM subsystem, secure channel not required, port, controller as it comes, queue size
        struct.pack_into("<BBBBHHH", entry, 0, 3, family, 2, 2, 0, 0xFFFF, QUEUE_ENTRIES)
        entry[32:64] = str(port).encode().ljust(32)
        entry[256:512] = name.encode().ljust(256, b"\0")
        entry[512:768] = address.encode().ljust(256)
        entries += bytes(entry)
    return struct.pack("<QQH", 1, len(names), 0).ljust(1024, b"\0") + entries


def log_page(which: int) -> bytes | None:
    """A log page of a drive in good health that has nothing to tell; None for unknown ones."""
    if which == 0x01:  # error information
        return bytes(64 * 8)
    if which == 0x02:  # SMART / health: 300 K, all of the spare blocks left, warn below a tenth
        return (struct.pack("<BHBBB", 0, 300, 100, 10, 0)).ljust(512, b"\0")
    if which == 0x03:  # firmware slots: the first is active
        return bytes([1]).ljust(512, b"\0")
    return None


def _nguid(profile: Profile) -> bytes:
    return hashlib.sha256(profile.identifier.encode()).digest()[:16]


def _eui64(profile: Profile) -> bytes:
    return hashlib.sha256(profile.identifier.encode()).digest()[16:24]
