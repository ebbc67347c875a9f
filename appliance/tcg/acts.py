"""What is done to a drive by its owner: each act is one session, and can be repeated.

The PIN of an administrator is changed by way of a second administrator, so that no PIN has to be tried to
know which one a drive has (docs/decisions/0068):

1. ``prepare_second``: Admin1 gives Admin2 the new PIN, then turns it on and names it.
2. ``change_first``: Admin2 gives Admin1 the new PIN, whichever it had, then names it.
3. ``dismiss_second``: Admin1 turns Admin2 off and takes its name away.

A name (CommonName, which the Locking SP shows to anybody: TCG Storage Opal SSC 2.30, section 4.3.1.7) is
written after the PIN it tells of, so it is never ahead.  The owner's PIN (SID) is changed by way of the PIN
that everybody can read (MSID), since whether it has that one the drive says without a session (feature set
Block SID Authentication): ``open_owner``, then ``set_owner``.  SID reaches nothing that is on the drive: it
can reset it, as whoever reads the label can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.tcg.asking import DriveSilent, MethodRefused, Session
from appliance.tcg.status import Status
from appliance.tcg.uids import (
    ADMIN_SP,
    C_PIN_MSID,
    C_PIN_SID,
    LOCKING_INFO,
    LOCKING_SP,
    SID,
    AuthorityColumn,
    Common,
    LockingColumn,
    LockingInfoColumn,
    Method,
    PinColumn,
    admin,
    locking_range,
    pin_of,
)

if TYPE_CHECKING:
    from typing import Any

    from appliance.tcg.asking import Interface

_FIRST, _SECOND = admin(1), admin(2)


def read_names(drive: Interface, comid: int) -> dict[str, Any]:
    """Names of the first two administrators, as anybody may read them; needs no PIN."""
    with Session(drive, comid, LOCKING_SP) as session:
        return {
            title: _text(session.get(who, Common.COMMON_NAME))
            for title, who in (("first", _FIRST), ("second", _SECOND))
        }


def prepare_second(drive: Interface, comid: int, pin: bytes, new: bytes, mark: bytes) -> dict[str, Any]:
    """Give Admin2 the new PIN, then turn it on and name it, by Admin1 and the PIN it has."""
    with Session(drive, comid, LOCKING_SP, _FIRST, pin) as session:
        session.set(pin_of(_SECOND), {PinColumn.PIN: new})
        session.set(_SECOND, {Common.COMMON_NAME: mark, AuthorityColumn.ENABLED: 1})
    return {}


def change_first(drive: Interface, comid: int, new: bytes, mark: bytes) -> dict[str, Any]:
    """Give Admin1 the new PIN, then name it, by Admin2; whichever PIN Admin1 had."""
    with Session(drive, comid, LOCKING_SP, _SECOND, new) as session:
        session.set(pin_of(_FIRST), {PinColumn.PIN: new})
        session.set(_FIRST, {Common.COMMON_NAME: mark})
    return {}


def dismiss_second(drive: Interface, comid: int, new: bytes) -> dict[str, Any]:
    """Turn Admin2 off and take its name away, by Admin1 and the new PIN."""
    with Session(drive, comid, LOCKING_SP, _FIRST, new) as session:
        session.set(_SECOND, {Common.COMMON_NAME: b"", AuthorityColumn.ENABLED: 0})
    return {}


def open_owner(drive: Interface, comid: int, pin: bytes) -> dict[str, Any]:
    """Give SID the PIN that everybody can read, by the PIN it has."""
    known = _known_pin(drive, comid)
    with Session(drive, comid, ADMIN_SP, SID, pin) as session:
        session.set(C_PIN_SID, {PinColumn.PIN: known})
    return {}


def set_owner(drive: Interface, comid: int, new: bytes) -> dict[str, Any]:
    """Give SID a new PIN, by the one that everybody can read."""
    with Session(drive, comid, ADMIN_SP, SID, _known_pin(drive, comid)) as session:
        session.set(C_PIN_SID, {PinColumn.PIN: new})
    return {}


def open_ranges(drive: Interface, comid: int, pin: bytes) -> dict[str, Any]:
    """Let every range be read, by Admin1; which they are, and as far as it may know their place in blocks.

    Of a range that was given to a user, as cryptsetup does, an administrator may not read where it lies,
    and may open it.  Writing stays as it is.  A range that was locked is locked again when power fails.
    """
    found: list[dict[str, int]] = []
    with Session(drive, comid, LOCKING_SP, _FIRST, pin) as session:
        count = _told(session, LOCKING_INFO, LockingInfoColumn.MAX_RANGES) or 0
        for which in range(count + 1):
            row = locking_range(which)
            length = _told(session, row, LockingColumn.RANGE_LENGTH)
            if which and length == 0:
                continue
            session.set(row, {LockingColumn.READ_LOCKED: 0})
            start = _told(session, row, LockingColumn.RANGE_START)
            known = {} if start is None or length is None else {"start": start, "length": length}
            found.append({"range": which, **known})
    return {"ranges": found}


def revert(drive: Interface, comid: int, pin: bytes) -> dict[str, Any]:
    """Take the whole drive back to as it was made, by its owner: every key of its media is a new one.

    TCG Storage Opal SSC 2.30, section 5.1.2.2.1.
    """
    with Session(drive, comid, ADMIN_SP, SID, pin) as session:
        session.call(ADMIN_SP, Method.REVERT)
        session.is_over()
    return {}


def _known_pin(drive: Interface, comid: int) -> bytes:
    """MSID's PIN, which anybody may read."""
    with Session(drive, comid, ADMIN_SP) as session:
        known = session.get(C_PIN_MSID, PinColumn.PIN)
    if not known or not isinstance(known, bytes):
        raise DriveSilent("the PIN that everybody can read cannot be read")
    return known


def _text(value: object) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else ""


def _told(session: Session, row: bytes, column: int) -> int | None:
    """A number of a row; None where it may not be read, which drives say by nothing or by a refusal."""
    try:
        value = session.get(row, column)
    except MethodRefused as refused:
        if refused.status != Status.NOT_AUTHORIZED.name:
            raise
        return None
    return value if isinstance(value, int) else None
