"""The Locking SP as made: TCG Storage Opal SSC 2.30, section 4.3."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from appliance.lab.drive.pins import factory_seal
from appliance.lab.drive.profile import DATA_STORE_SIZE, SHADOW_SIZE
from appliance.lab.drive.provider import SecurityProvider
from appliance.tcg.uids import (
    ACE,
    ADMINS,
    ANYBODY,
    AUTHORITY,
    C_PIN,
    DATA_STORE,
    K_AES_256,
    LOCKING,
    LOCKING_INFO,
    LOCKING_SP,
    MBR,
    MBR_CONTROL,
    METHOD_ID,
    METHOD_NAMES,
    SP_INFO,
    TABLE,
    THIS_SP,
    USERS,
    AceColumn,
    AuthorityColumn,
    Common,
    KeyColumn,
    LockingColumn,
    MbrColumn,
    Method,
    PinColumn,
    Reset,
    admin,
    locking_range,
    pin_of,
    range_key,
    table_of,
    uid,
    user,
)

if TYPE_CHECKING:
    from appliance.lab.drive.profile import Profile

KEY_SIZE = 64  # bytes: AES-256 in XTS has two keys
_XTS = 7  # symmetric_mode_media
_OBJECT, _BYTE = 1, 2  # a table's Kind
_NO_PIN = (Common.UID, PinColumn.CHAR_SET, PinColumn.TRY_LIMIT, PinColumn.TRIES, PinColumn.PERSISTENCE)
_TO_LOCK_ON_RESET = tuple(range(LockingColumn.RANGE_START, LockingColumn.LOCK_ON_RESET + 1))
_LOCKS = tuple(range(LockingColumn.READ_LOCK_ENABLED, LockingColumn.LOCK_ON_RESET + 1))


def new_key() -> bytes:
    """A media encryption key."""
    return secrets.token_bytes(KEY_SIZE)


def new_keys(profile: Profile) -> dict[bytes, bytes]:
    """A key for each K_AES_256 row; none for a drive that does not encrypt."""
    return {range_key(number): new_key() for number in range(profile.ranges + 1) if profile.encrypts}


def factory_locking_sp(profile: Profile, keys: dict[bytes, bytes]) -> SecurityProvider:
    """All rows of the Locking SP of a new drive.

    Args:
        profile: what the drive is.
        keys: the key of each K_AES_256 row; empty for a drive that does not encrypt.
    """
    sp = SecurityProvider(LOCKING_SP)
    any_one = (sp.add_ace(1, "ACE_Anybody", ANYBODY),)
    admins = (sp.add_ace(2, "ACE_Admin", ADMINS),)
    names = (Common.UID, Common.COMMON_NAME)
    get_name = sp.add_ace(3, "ACE_Anybody_Get_CommonName", ANYBODY, columns=names)
    set_name = sp.add_ace(4, "ACE_Admins_Set_CommonName", ADMINS, columns=(Common.COMMON_NAME,))
    sp.allow(Method.AUTHENTICATE, any_one, THIS_SP)
    sp.allow(Method.RANDOM, any_one, THIS_SP)
    sp.allow(Method.REVERT_SP, admins, THIS_SP)
    _add_tables(sp, profile, any_one)
    _add_authorities(sp, profile, get_name, set_name)
    _add_ranges(sp, profile, keys, get_name, set_name)
    _add_shadow(sp, profile, any_one, admins)
    get_store = sp.add_ace(0x3FC00, "ACE_DataStore_Get_All", ADMINS)
    set_store = sp.add_ace(0x3FC01, "ACE_DataStore_Set_All", ADMINS)
    sp.allow(Method.GET, (get_store,), DATA_STORE)
    sp.allow(Method.SET, (set_store,), DATA_STORE)
    _add_access_to_aces(sp)
    return sp


def _add_tables(sp: SecurityProvider, profile: Profile, any_one: tuple[bytes, ...]) -> None:
    sp.add(uid(0x2, 1), "Locking", c5=1)
    for table, title, rows in (
        (TABLE, "Table", 0),
        (SP_INFO, "SPInfo", 0),
        (METHOD_ID, "MethodID", 0),
        (ACE, "ACE", 0),
        (AUTHORITY, "Authority", 0),
        (C_PIN, "C_PIN", 0),
        (table_of(LOCKING_INFO), "LockingInfo", 0),
        (LOCKING, "Locking", 0),
        (table_of(MBR_CONTROL), "MBRControl", 0),
        (MBR, "MBR", SHADOW_SIZE if profile.shadow else 0),
        (K_AES_256, "K_AES_256", 0),
        (DATA_STORE, "DataStore", DATA_STORE_SIZE),
    ):
        left_out = (table == K_AES_256 and not profile.encrypts) or (table == MBR and not profile.shadow)
        if not left_out:
            name = uid(0x1, int.from_bytes(table[:4], "big"))
            kind = _BYTE if rows else _OBJECT
            sp.add(name, title, c2=b"", c4=kind, c7=rows, c13=int(kind == _BYTE), c14=int(kind == _BYTE))
    for method, title in METHOD_NAMES.items():
        if table_of(method) == METHOD_ID:
            sp.add(method, title)
    sp.add(
        LOCKING_INFO,
        "",
        c2=1,
        c3=int(profile.encrypts),
        c4=profile.ranges,
        c5=0,
        c6=0,
        c7=int(profile.granularity > 1),
        c8=profile.reported_block_size,
        c9=profile.granularity,
        c10=profile.lowest_aligned,
    )
    sp.allow(Method.NEXT, any_one, TABLE, METHOD_ID, ACE, AUTHORITY, C_PIN, LOCKING)
    for table in (TABLE, SP_INFO, METHOD_ID, LOCKING_INFO):
        sp.allow(Method.GET, any_one, *sp.rows_of(table))


def _add_authorities(sp: SecurityProvider, profile: Profile, get_name: bytes, set_name: bytes) -> None:
    get_all = sp.add_ace(0x39000, "ACE_Authority_Get_All", ADMINS)
    enable = sp.add_ace(0x39001, "ACE_Authority_Set_Enabled", ADMINS, columns=(AuthorityColumn.ENABLED,))
    get_no_pin = sp.add_ace(0x3A000, "ACE_C_PIN_Admins_Get_All_NOPIN", ADMINS, columns=_NO_PIN)
    set_admins = sp.add_ace(0x3A001, "ACE_C_PIN_Admins_Set_PIN", ADMINS, columns=(PinColumn.PIN,))
    sp.add_authority(ANYBODY, "Anybody", enabled=True)
    sp.add_authority(ADMINS, "Admins", enabled=True, group=True)
    sp.add_authority(USERS, "Users", enabled=True, group=True)
    for number in range(1, profile.admins + 1):
        who, pin = admin(number), pin_of(admin(number))
        sp.add_authority(who, f"Admin{number}", enabled=number == 1, of=ADMINS, credential=pin)
        sp.add_pin(pin, f"C_PIN_Admin{number}", factory_seal(b""), profile.try_limit)
        sp.allow(Method.SET, (set_name,) if number == 1 else (enable, set_name), who)
        sp.allow(Method.SET, (set_admins,), pin)
    for number in range(1, profile.users + 1):
        who, pin = user(number), pin_of(user(number))
        sp.add_authority(who, f"User{number}", enabled=False, of=USERS, credential=pin)
        sp.add_pin(pin, f"C_PIN_User{number}", factory_seal(b""), profile.try_limit)
        title = f"ACE_C_PIN_User{number}_Set_PIN"
        set_pin = sp.add_ace(0x3A800 + number, title, ADMINS, who, columns=(PinColumn.PIN,))
        title = f"ACE_User{number}_Set_CommonName"
        name_ace = sp.add_ace(0x44000 + number, title, ADMINS, columns=(Common.COMMON_NAME,))
        sp.allow(Method.SET, (enable, name_ace), who)
        sp.allow(Method.SET, (set_pin,), pin)
    sp.allow(Method.GET, (get_all, get_name), *sp.rows_of(AUTHORITY))
    sp.allow(Method.GET, (get_no_pin,), *sp.rows_of(C_PIN))


def _add_ranges(
    sp: SecurityProvider, profile: Profile, keys: dict[bytes, bytes], get_name: bytes, set_name: bytes
) -> None:
    set_global = sp.add_ace(0x3F000, "ACE_Locking_GlblRng_Admins_Set", ADMINS, columns=_LOCKS)
    set_other = sp.add_ace(0x3F001, "ACE_Locking_Admins_RangeStartToLOR", ADMINS, columns=_TO_LOCK_ON_RESET)
    mode = sp.add_ace(0x3BFFF, "ACE_K_AES_Mode", ANYBODY, columns=(KeyColumn.MODE,))
    for number in range(profile.ranges + 1):
        title = f"Range{number}" if number else "GlobalRange"
        name, key = locking_range(number), range_key(number)
        sp.add(
            name,
            f"Locking_{title}",
            c2=b"",
            c3=0,
            c4=0,
            c5=0,
            c6=0,
            c7=0,
            c8=0,
            c9=[Reset.POWER_CYCLE],
            c10=key if profile.encrypts else bytes(8),
        )
        columns = (*_TO_LOCK_ON_RESET, LockingColumn.ACTIVE_KEY)
        get_to_key = f"ACE_Locking_{title}_Get_RangeStartToActiveKey"
        readable = sp.add_ace(0x3D000 + number, get_to_key, ADMINS, columns=columns)
        read, write = (LockingColumn.READ_LOCKED,), (LockingColumn.WRITE_LOCKED,)
        set_read = sp.add_ace(0x3E000 + number, f"ACE_Locking_{title}_Set_RdLocked", ADMINS, columns=read)
        set_write = sp.add_ace(0x3E800 + number, f"ACE_Locking_{title}_Set_WrLocked", ADMINS, columns=write)
        sp.allow(Method.GET, (readable, get_name), name)
        sp.allow(Method.SET, (set_other if number else set_global, set_read, set_write, set_name), name)
        if profile.encrypts:
            sp.add(key, f"K_AES_256_{title}_Key", c2=b"", c3=keys[key], c4=_XTS)
            renew = sp.add_ace(0x3B800 + number, f"ACE_K_AES_256_{title}_GenKey", ADMINS)
            sp.allow(Method.GET, (mode,), key)
            sp.allow(Method.GEN_KEY, (renew,), key)


def _add_shadow(
    sp: SecurityProvider, profile: Profile, any_one: tuple[bytes, ...], admins: tuple[bytes, ...]
) -> None:
    if not profile.shadow:
        return
    columns = (MbrColumn.ENABLE, MbrColumn.DONE, MbrColumn.DONE_ON_RESET)
    set_all = sp.add_ace(0x3F800, "ACE_MBRControl_Admins_Set", ADMINS, columns=columns)
    set_done = sp.add_ace(0x3F801, "ACE_MBRControl_Set_DoneToDOR", ADMINS, columns=columns[1:])
    sp.rows[MBR_CONTROL] = {
        Common.UID: MBR_CONTROL,
        MbrColumn.ENABLE: 0,
        MbrColumn.DONE: 0,
        MbrColumn.DONE_ON_RESET: [Reset.POWER_CYCLE],
    }
    sp.allow(Method.GET, any_one, MBR_CONTROL, MBR)
    sp.allow(Method.SET, (set_all, set_done), MBR_CONTROL)
    sp.allow(Method.SET, admins, MBR)


def _add_access_to_aces(sp: SecurityProvider) -> None:
    """Which elements the owner may rewrite: those of Table 38."""
    get_all = sp.add_ace(0x38000, "ACE_ACE_Get_All", ADMINS)
    column = (AceColumn.BOOLEAN_EXPR,)
    rewrite = sp.add_ace(0x38001, "ACE_ACE_Set_BooleanExpression", ADMINS, columns=column)
    sp.allow(Method.GET, (get_all,), *sp.rows_of(ACE))
    fixed = {1, 2, 3, 4, 0x38001, 0x39001, 0x3A000, 0x3A001, 0x3BFFF, 0x3F000, 0x3F001, 0x3F800}
    free = [name for name in sp.rows_of(ACE) if int.from_bytes(name[4:], "big") not in fixed]
    sp.allow(Method.SET, (rewrite,), *free)
