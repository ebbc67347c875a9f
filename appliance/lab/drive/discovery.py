"""Level 0 Discovery: what a drive tells everybody, without a session.

TCG Storage Opal SSC 2.30, section 3.1.1.  Further descriptors: Block SID Authentication and Additional
DataStore Tables, feature sets of their own; Pyrite and Ruby, SSCs of their own.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from appliance.lab.drive.pins import opens
from appliance.lab.drive.profile import DATA_STORE_SIZE
from appliance.lab.drive.rules import number
from appliance.tcg.uids import C_PIN_SID, LOCKING, MBR_CONTROL, LockingColumn, MbrColumn, PinColumn

if TYPE_CHECKING:
    from appliance.lab.drive.tper import TPer

_TPER, _LOCKING, _GEOMETRY = 0x0001, 0x0002, 0x0003
_DATA_STORE, _OPAL_2, _PYRITE_2, _RUBY = 0x0202, 0x0203, 0x0303, 0x0304
_BLOCK_SID, _DATA_REMOVAL = 0x0402, 0x0404
_SSC = {"opal": _OPAL_2, "pyrite": _PYRITE_2, "ruby": _RUBY}
_CRYPTOGRAPHIC_ERASE = 1 << 2
_SYNC, _STREAMING = 0x01, 0x10


def level_0(tper: TPer) -> bytes:
    """The header and all descriptors."""
    profile = tper.profile
    found = _descriptor(_TPER, 1, bytes([_SYNC | _STREAMING]))
    found += _descriptor(_LOCKING, 2, bytes([_locking_flags(tper)]))
    geometry = (int(profile.granularity > 1), profile.reported_block_size)
    more = (profile.granularity, profile.lowest_aligned)
    found += _descriptor(_GEOMETRY, 1, struct.pack(">B7xIQQ", *geometry, *more), 28)
    found += _descriptor(_SSC[profile.kind], 2, _ssc(tper), 16)
    if profile.kind == "opal":
        found += _descriptor(_DATA_STORE, 1, struct.pack(">HHII", 0, 1, DATA_STORE_SIZE, 1))
    taken = not opens(_sid(tper), profile.msid.encode())
    found += _descriptor(_BLOCK_SID, 1, bytes([taken | tper.sid_blocked << 1, tper.unblocked_by_reset]))
    mechanisms = _CRYPTOGRAPHIC_ERASE if profile.encrypts else 0
    found += _descriptor(_DATA_REMOVAL, 1, bytes([0, 0, mechanisms]), 32)
    return struct.pack(">IHH40x", 44 + len(found), 0, 1) + found


def _descriptor(code: int, version: int, content: bytes, length: int = 12) -> bytes:
    return struct.pack(">HBB", code, version << 4, length) + content.ljust(length, b"\0")


def _sid(tper: TPer) -> bytes:
    kept = tper.admin.rows[C_PIN_SID][PinColumn.PIN]
    return kept if isinstance(kept, bytes) else b""


def _locking_flags(tper: TPer) -> int:
    """Byte 4 of the Locking feature; Opal SSC 2.30, section 3.1.1.3."""
    rows = [tper.locking.rows[name] for name in tper.locking.rows_of(LOCKING)]
    locked = any(
        (number(row, LockingColumn.READ_LOCK_ENABLED) and number(row, LockingColumn.READ_LOCKED))
        or (number(row, LockingColumn.WRITE_LOCK_ENABLED) and number(row, LockingColumn.WRITE_LOCKED))
        for row in rows
    )
    shadow = tper.locking.rows.get(MBR_CONTROL, {MbrColumn.ENABLE: 0, MbrColumn.DONE: 0})
    flags = (
        True,
        tper.active,
        tper.active and locked,
        tper.profile.encrypts,
        tper.active and bool(shadow[MbrColumn.ENABLE]),
        tper.active and bool(shadow[MbrColumn.DONE]),
        not tper.profile.shadow,
    )
    return sum(flag << bit for bit, flag in enumerate(flags))


def _ssc(tper: TPer) -> bytes:
    """ComIDs, whether commands may cross ranges, and how many may log in; section 3.1.1.5.

    SID's PIN is MSID's at first and after Revert, which the zeros at the end say.
    """
    profile = tper.profile
    if profile.kind == "pyrite":
        return struct.pack(">HH", tper.COMID, 1)
    crossing = int(not profile.range_crossing)
    return struct.pack(">HHBHH", tper.COMID, 1, crossing, profile.admins, profile.users)
