"""The Admin SP as made: TCG Storage Opal SSC 2.30, section 4.2, with the PSID of the feature set PSID."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.drive.pins import factory_seal
from appliance.lab.drive.provider import SecurityProvider
from appliance.tcg.uids import (
    ACE,
    ADMIN_SP,
    ADMIN_SP_ADMIN1,
    ADMINS,
    ANYBODY,
    AUTHORITY,
    C_PIN,
    C_PIN_ADMIN_SP_ADMIN1,
    C_PIN_MSID,
    C_PIN_PSID,
    C_PIN_SID,
    DATA_REMOVAL,
    LOCKING_SP,
    MAKERS,
    METHOD_ID,
    METHOD_NAMES,
    PSID,
    SID,
    SP,
    THIS_SP,
    TPER_INFO,
    AuthorityColumn,
    Common,
    LifeCycle,
    Method,
    PinColumn,
    TPerInfoColumn,
    table_of,
)

if TYPE_CHECKING:
    from appliance.lab.drive.profile import Profile

_NO_PIN = (Common.UID, PinColumn.CHAR_SET, PinColumn.TRY_LIMIT, PinColumn.TRIES, PinColumn.PERSISTENCE)
_CRYPTOGRAPHIC_ERASE = 2


def factory_admin_sp(profile: Profile) -> SecurityProvider:
    """All rows of the Admin SP of a new drive."""
    sp = SecurityProvider(ADMIN_SP)
    anybody = sp.add_ace(1, "ACE_Anybody", ANYBODY)
    admin = sp.add_ace(2, "ACE_Admin", ADMINS)
    set_enabled = sp.add_ace(0x30001, "ACE_Set_Enabled", SID, columns=(AuthorityColumn.ENABLED,))
    get_no_pin = sp.add_ace(0x8C02, "ACE_C_PIN_SID_Get_NOPIN", ADMINS, SID, columns=_NO_PIN)
    set_sid = sp.add_ace(0x8C03, "ACE_C_PIN_SID_Set_PIN", SID, columns=(PinColumn.PIN,))
    columns = (Common.UID, PinColumn.PIN)
    get_msid = sp.add_ace(0x8C04, "ACE_C_PIN_MSID_Get_PIN", ANYBODY, columns=columns)
    set_admins = sp.add_ace(0x3A001, "ACE_C_PIN_Admins_Set_PIN", ADMINS, SID, columns=(PinColumn.PIN,))
    reset = (TPerInfoColumn.PROGRAMMATIC_RESET,)
    set_reset = sp.add_ace(0x30003, "ACE_TPerInfo_Set_ProgrammaticResetEnable", SID, columns=reset)
    sp_sid = sp.add_ace(0x30002, "ACE_SP_SID", SID)
    sp_psid = sp.add_ace(0x100E0, "ACE_SP_PSID", PSID)
    removal = sp.add_ace(
        0x50001, "ACE_DataRemovalMechanism_Set_ActiveDataRemovalMechanism", ADMINS, SID, columns=(1,)
    )

    sp.add_authority(ANYBODY, "Anybody", enabled=True)
    sp.add_authority(ADMINS, "Admins", enabled=True, group=True)
    sp.add_authority(MAKERS, "Makers", enabled=True, group=True)
    sp.add_authority(SID, "SID", enabled=True, credential=C_PIN_SID)
    sp.add_authority(ADMIN_SP_ADMIN1, "Admin1", enabled=False, of=ADMINS, credential=C_PIN_ADMIN_SP_ADMIN1)
    sp.add_authority(PSID, "PSID", enabled=True, credential=C_PIN_PSID)

    owner = profile.msid if profile.owner_pin is None else profile.owner_pin
    sp.add_pin(C_PIN_SID, "C_PIN_SID", factory_seal(owner.encode()), profile.try_limit)
    sp.add(C_PIN_MSID, "C_PIN_MSID", c3=profile.msid.encode())
    sp.add_pin(C_PIN_ADMIN_SP_ADMIN1, "C_PIN_Admin1", factory_seal(b""), 0)
    sp.add_pin(C_PIN_PSID, "C_PIN_PSID", factory_seal(profile.psid.encode()), profile.try_limit)

    sp.add(TPER_INFO, "", c8=0)
    sp.add(ADMIN_SP, "Admin", c6=LifeCycle.MANUFACTURED, c7=0)
    sp.add(LOCKING_SP, "Locking", c6=LifeCycle.MANUFACTURED_INACTIVE, c7=0)
    sp.rows[DATA_REMOVAL] = {Common.UID: DATA_REMOVAL, 1: _CRYPTOGRAPHIC_ERASE}
    for method, title in METHOD_NAMES.items():
        if table_of(method) == METHOD_ID:
            sp.add(method, title)

    any_one = (anybody,)
    sp.allow(Method.NEXT, any_one, METHOD_ID, ACE, AUTHORITY, C_PIN, SP)
    for table in (METHOD_ID, ACE, AUTHORITY, SP):
        sp.allow(Method.GET, any_one, *sp.rows_of(table))
    sp.allow(Method.GET, any_one, TPER_INFO, DATA_REMOVAL)
    sp.allow(Method.GET, (get_no_pin,), C_PIN_SID, C_PIN_ADMIN_SP_ADMIN1)
    sp.allow(Method.GET, (get_msid,), C_PIN_MSID)
    sp.allow(Method.SET, (set_enabled,), MAKERS, ADMIN_SP_ADMIN1)
    sp.allow(Method.SET, (set_sid,), C_PIN_SID)
    sp.allow(Method.SET, (set_admins,), C_PIN_ADMIN_SP_ADMIN1)
    sp.allow(Method.SET, (set_reset,), TPER_INFO)
    sp.allow(Method.SET, (removal,), DATA_REMOVAL)
    sp.allow(Method.AUTHENTICATE, any_one, THIS_SP)
    sp.allow(Method.RANDOM, any_one, THIS_SP)
    sp.allow(Method.REVERT, (sp_sid, admin, sp_psid), ADMIN_SP)
    sp.allow(Method.REVERT, (sp_sid, admin), LOCKING_SP)
    sp.allow(Method.ACTIVATE, (sp_sid,), ADMIN_SP, LOCKING_SP)
    return sp
