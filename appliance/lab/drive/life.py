"""Methods on security providers and keys: Activate, Revert, RevertSP, GenKey, Authenticate, Random.

TCG Storage Opal SSC 2.30, sections 5.1.1 to 5.1.3 and 4.2.9.1.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from appliance.lab.drive.access import allowed_columns
from appliance.lab.drive.locking_sp import new_key
from appliance.lab.drive.tables import named
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.uids import (
    ADMIN_SP,
    C_PIN_SID,
    KeyColumn,
    LifeCycle,
    LockingColumn,
    Method,
    PinColumn,
    SpColumn,
    admin,
    locking_range,
    pin_of,
)

if TYPE_CHECKING:
    from appliance.lab.drive.sessions import Session
    from appliance.lab.drive.tper import TPer
    from appliance.tcg.stream import Call, Value

_KEEP_GLOBAL_RANGE_KEY = 0x060000  # Opal SSC 2.30, section 5.1.3.2
_MOST_RANDOM = 32  # bytes; section 4.2.9.1
_PROOF = 0


def activate(tper: TPer, session: Session, call: Call) -> list[Value]:
    """Turn the Locking SP on; its first administrator has the owner's PIN from then on."""
    sp = tper.provider(session)
    allowed_columns(sp, call.invoking, Method.ACTIVATE, session.authorities(sp))
    if call.parameters:  # single user mode, which this drive does not have
        raise MethodFailed(Status.INVALID_PARAMETER)
    row = sp.rows[call.invoking]
    if row[SpColumn.LIFE_CYCLE] == LifeCycle.MANUFACTURED_INACTIVE:
        row[SpColumn.LIFE_CYCLE] = LifeCycle.MANUFACTURED
        tper.locking.rows[pin_of(admin(1))][PinColumn.PIN] = sp.rows[C_PIN_SID][PinColumn.PIN]
    return []


def revert(tper: TPer, session: Session, call: Call) -> list[Value]:
    """Take an SP back to as it was made; the Admin SP, and with it everything."""
    sp = tper.provider(session)
    allowed_columns(sp, call.invoking, Method.REVERT, session.authorities(sp))
    if call.parameters:
        raise MethodFailed(Status.INVALID_PARAMETER)
    if tper.active:
        tper.revert_locking()
    if call.invoking == ADMIN_SP:
        tper.revert_admin()
        session.ends = True
    return []


def revert_sp(tper: TPer, session: Session, call: Call) -> list[Value]:
    """Turn the Locking SP off, by its administrator; the data of the global range may stay."""
    sp = tper.provider(session)
    allowed_columns(sp, call.invoking, Method.REVERT_SP, session.authorities(sp))
    keep = named(call.parameters, {_KEEP_GLOBAL_RANGE_KEY}).get(_KEEP_GLOBAL_RANGE_KEY, 0)
    row = sp.rows[locking_range(0)]
    if keep and row[LockingColumn.READ_LOCKED] and row[LockingColumn.WRITE_LOCKED]:
        raise MethodFailed(Status.FAIL)
    tper.revert_locking(keep_global=bool(keep))
    session.ends = True
    return []


def gen_key(tper: TPer, session: Session, call: Call) -> list[Value]:
    """A new key for a range: what it held is noise from then on."""
    sp = tper.provider(session)
    allowed_columns(sp, call.invoking, Method.GEN_KEY, session.authorities(sp))
    if call.parameters:
        raise MethodFailed(Status.INVALID_PARAMETER)
    sp.rows[call.invoking][KeyColumn.KEY] = new_key()
    return []


def authenticate(tper: TPer, session: Session, call: Call) -> list[Value]:
    """Let the session have one more authority; the answer says whether the PIN is right."""
    if not call.parameters or not isinstance(call.parameters[0], bytes):
        raise MethodFailed(Status.INVALID_PARAMETER)
    proof = named(call.parameters[1:], {_PROOF}).get(_PROOF, b"")
    if not isinstance(proof, bytes):
        raise MethodFailed(Status.INVALID_PARAMETER)
    try:
        tper.prove(session.sp, call.parameters[0], proof)
    except MethodFailed as failed:
        if failed.status is Status.NOT_AUTHORIZED:
            return [0]
        raise
    session.authenticated.add(call.parameters[0])
    return [1]


def random(_tper: TPer, _session: Session, call: Call) -> list[Value]:
    """Random bytes."""
    if len(call.parameters) != 1 or not isinstance(call.parameters[0], int):
        raise MethodFailed(Status.INVALID_PARAMETER)
    if not 0 < call.parameters[0] <= _MOST_RANDOM:
        raise MethodFailed(Status.INVALID_PARAMETER)
    return [secrets.token_bytes(call.parameters[0])]
