"""What may be set: values that the columns of a drive's tables take.

Ranges: TCG Storage Opal SSC 2.30, section 4.3.5.2.1; LockOnReset and DoneOnReset: sections 4.3.5.2.2 and
4.3.5.3.1; access control elements: section 4.3.1.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.drive.access import fulfilled
from appliance.lab.drive.pins import LONGEST, seal
from appliance.lab.drive.provider import AUTHORITY_REFERENCE, any_of
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.stream import Named
from appliance.tcg.uids import (
    ACE,
    ADMINS,
    AUTHORITY,
    C_PIN,
    DATA_REMOVAL,
    LOCKING,
    LOCKING_INFO,
    MBR_CONTROL,
    TPER_INFO,
    AceColumn,
    AuthorityColumn,
    Common,
    LockingColumn,
    LockingInfoColumn,
    MbrColumn,
    PinColumn,
    TPerInfoColumn,
    table_of,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.lab.drive.provider import Row, SecurityProvider
    from appliance.tcg.stream import Value

_LONGEST_NAME = 32
_RESETS = ([0], [0, 1], [0, 3], [0, 1, 3])
_PIN_OF_USER = 0x3A800


def settle(sp: SecurityProvider, name: bytes, values: Row, blocks: int) -> Row:
    """The values as they are kept, if the row may take them.

    Args:
        sp: whose row it is.
        name: the row's UID.
        values: new values by column.
        blocks: blocks of the drive, which ranges stay within.

    Raises:
        MethodFailed: INVALID_PARAMETER.
    """
    kept: Row = {}
    for column, value in values.items():
        rule = _RULES.get((table_of(name), column))
        if rule is None:
            raise MethodFailed(Status.INVALID_PARAMETER)
        kept[column] = rule(value)
    if table_of(name) == LOCKING and {LockingColumn.RANGE_START, LockingColumn.RANGE_LENGTH} & kept.keys():
        _check_range(sp, name, {**sp.rows[name], **kept}, blocks)
    if table_of(name) == ACE:
        _check_expression(sp, name, kept[AceColumn.BOOLEAN_EXPR])
    return kept


def _wrong() -> MethodFailed:
    return MethodFailed(Status.INVALID_PARAMETER)


def _boolean(value: Value) -> Value:
    if value not in {0, 1} if isinstance(value, int) else True:
        raise _wrong()
    return value


def _number(value: Value) -> Value:
    if not isinstance(value, int) or value >= 1 << 64:
        raise _wrong()
    return value


def _resets(value: Value) -> Value:
    if value not in _RESETS:
        raise _wrong()
    return value


def _text(value: Value) -> Value:
    if not isinstance(value, bytes) or len(value) > _LONGEST_NAME:
        raise _wrong()
    return value


def _pin(value: Value) -> Value:
    if not isinstance(value, bytes) or len(value) > LONGEST:
        raise _wrong()
    return seal(value)


def _expression(value: Value) -> Value:
    try:
        fulfilled(value, frozenset())
    except ValueError:
        raise _wrong() from None
    return value


def _cryptographic_erase(value: Value) -> Value:
    if value != 2:
        raise _wrong()
    return value


_RULES: dict[tuple[bytes, int], Callable[[Value], Value]] = {
    (ACE, AceColumn.BOOLEAN_EXPR): _expression,
    (AUTHORITY, Common.COMMON_NAME): _text,
    (AUTHORITY, AuthorityColumn.ENABLED): _boolean,
    (C_PIN, PinColumn.PIN): _pin,
    (table_of(TPER_INFO), TPerInfoColumn.PROGRAMMATIC_RESET): _boolean,
    (table_of(DATA_REMOVAL), 1): _cryptographic_erase,
    (LOCKING, Common.COMMON_NAME): _text,
    (LOCKING, LockingColumn.RANGE_START): _number,
    (LOCKING, LockingColumn.RANGE_LENGTH): _number,
    (LOCKING, LockingColumn.READ_LOCK_ENABLED): _boolean,
    (LOCKING, LockingColumn.WRITE_LOCK_ENABLED): _boolean,
    (LOCKING, LockingColumn.READ_LOCKED): _boolean,
    (LOCKING, LockingColumn.WRITE_LOCKED): _boolean,
    (LOCKING, LockingColumn.LOCK_ON_RESET): _resets,
    (table_of(MBR_CONTROL), MbrColumn.ENABLE): _boolean,
    (table_of(MBR_CONTROL), MbrColumn.DONE): _boolean,
    (table_of(MBR_CONTROL), MbrColumn.DONE_ON_RESET): _resets,
}


def number(row: Row, column: int) -> int:
    """A number of a row.  Nothing but numbers gets into such columns."""
    value = row[column]
    if not isinstance(value, int):
        raise TypeError(f"column {column} is no number")
    return value


def _check_range(sp: SecurityProvider, name: bytes, row: Row, blocks: int) -> None:
    start, length = number(row, LockingColumn.RANGE_START), number(row, LockingColumn.RANGE_LENGTH)
    info = sp.rows[LOCKING_INFO]
    granularity = number(info, LockingInfoColumn.GRANULARITY)
    lowest = number(info, LockingInfoColumn.LOWEST_ALIGNED)
    if number(info, LockingInfoColumn.ALIGNMENT_REQUIRED):
        if start and (start - lowest) % granularity:
            raise _wrong()
        if length and (length if start else length - lowest) % granularity:
            raise _wrong()
    if start + length > blocks:
        raise _wrong()
    for other in sp.rows_of(LOCKING)[1:]:
        if other == name or not length:
            continue
        there = number(sp.rows[other], LockingColumn.RANGE_START)
        end = there + number(sp.rows[other], LockingColumn.RANGE_LENGTH)
        if there < end and start < end and there < start + length:
            raise _wrong()


def _check_expression(sp: SecurityProvider, name: bytes, expression: Value) -> None:
    if not isinstance(expression, list):
        raise _wrong()
    named = [
        item.value for item in expression if isinstance(item, Named) and item.name == AUTHORITY_REFERENCE
    ]
    if any(not isinstance(who, bytes) or who not in sp.rows for who in named):
        raise _wrong()
    which = int.from_bytes(name[4:], "big") - _PIN_OF_USER
    # A user's own PIN: the administrators, or they and that user, and nothing else.
    if 0 < which < 0x800 and expression not in (any_of(ADMINS), any_of(ADMINS, user(which))):
        raise _wrong()
