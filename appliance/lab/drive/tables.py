"""Methods on tables and their rows: Get, Set, Next, GetACL.

TCG Storage Architecture Core Specification 2.01 defines them in its Base Template; what Opal asks of them:
TCG Storage Opal SSC 2.30, section 4.3.1.5; byte tables: section 5.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.drive.access import allowed_columns
from appliance.lab.drive.rules import settle
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.stream import Named
from appliance.tcg.uids import Method

if TYPE_CHECKING:
    from appliance.lab.drive.provider import Row
    from appliance.lab.drive.sessions import Session
    from appliance.lab.drive.tper import TPer
    from appliance.tcg.stream import Call, Value

_START_ROW, _END_ROW, _START_COLUMN, _END_COLUMN = 1, 2, 3, 4
_WHERE, _VALUES = 0, 1
_COUNT = 1


def named(values: list[Value], known: set[int]) -> dict[int, Value]:
    """Named values by their numbers.

    Raises:
        MethodFailed: INVALID_PARAMETER, for others, for doubles and for such without a name.
    """
    found: dict[int, Value] = {}
    for item in values:
        if not isinstance(item, Named) or item.name not in known or item.name in found:
            raise MethodFailed(Status.INVALID_PARAMETER)
        if isinstance(item.name, int):
            found[item.name] = item.value
    return found


def get(tper: TPer, session: Session, call: Call) -> list[Value]:
    """The columns of a row that are asked for and may be read; or bytes of a byte table."""
    if len(call.parameters) != 1 or not isinstance(call.parameters[0], list):
        raise MethodFailed(Status.INVALID_PARAMETER)
    block = named(call.parameters[0], {0, _START_ROW, _END_ROW, _START_COLUMN, _END_COLUMN})
    sp = tper.provider(session)
    columns = allowed_columns(sp, call.invoking, Method.GET, session.authorities(sp))
    space = tper.spaces.get(call.invoking)
    if space is not None:
        first, last = block.get(_START_ROW, 0), block.get(_END_ROW, space.size - 1)
        if not isinstance(first, int) or not isinstance(last, int) or not first <= last < space.size:
            raise MethodFailed(Status.INVALID_PARAMETER)
        if last - first >= tper.largest_answer:
            raise MethodFailed(Status.RESPONSE_OVERFLOW)
        return [space.read(first, last - first + 1)]
    row = sp.rows.get(call.invoking)
    if row is None or {0, _START_ROW, _END_ROW} & block.keys():
        raise MethodFailed(Status.INVALID_PARAMETER)
    first, last = block.get(_START_COLUMN, 0), block.get(_END_COLUMN, max(row))
    if not isinstance(first, int) or not isinstance(last, int):
        raise MethodFailed(Status.INVALID_PARAMETER)
    readable = [column for column in sorted(row) if columns is None or column in columns]
    return [[Named(column, row[column]) for column in readable if first <= column <= last]]


def set_values(tper: TPer, session: Session, call: Call) -> list[Value]:
    """New values for columns of a row, all or none of them; or bytes for a byte table."""
    parameters = named(call.parameters, {_WHERE, _VALUES})
    sp = tper.provider(session)
    columns = allowed_columns(sp, call.invoking, Method.SET, session.authorities(sp))
    values = parameters.get(_VALUES)
    space = tper.spaces.get(call.invoking)
    if space is not None:
        where = parameters.get(_WHERE, 0)
        if not isinstance(where, int) or not isinstance(values, bytes) or where + len(values) > space.size:
            raise MethodFailed(Status.INVALID_PARAMETER)
        space.write(where, values)
        return []
    if _WHERE in parameters or call.invoking not in sp.rows:
        raise MethodFailed(Status.INVALID_PARAMETER)
    if values is None:
        return []
    if not isinstance(values, list):
        raise MethodFailed(Status.INVALID_PARAMETER)
    row: Row = named(values, set(range(256)))
    if columns is not None and not row.keys() <= columns:
        raise MethodFailed(Status.NOT_AUTHORIZED)
    sp.rows[call.invoking].update(settle(sp, call.invoking, row, tper.profile.blocks))
    return []


def next_rows(tper: TPer, session: Session, call: Call) -> list[Value]:
    """UIDs of the rows of a table, behind one of them if it is named."""
    parameters = named(call.parameters, {_WHERE, _COUNT})
    sp = tper.provider(session)
    allowed_columns(sp, call.invoking, Method.NEXT, session.authorities(sp))
    rows = sp.rows_of(call.invoking)
    where, count = parameters.get(_WHERE), parameters.get(_COUNT, len(rows))
    if not isinstance(count, int) or (where is not None and where not in rows):
        raise MethodFailed(Status.INVALID_PARAMETER)
    start = rows.index(where) + 1 if isinstance(where, bytes) else 0
    return [list(rows[start : start + count])]


def get_acl(tper: TPer, session: Session, call: Call) -> list[Value]:
    """The access control elements of a method on an object, which anybody may ask for."""
    if len(call.parameters) != 2:
        raise MethodFailed(Status.INVALID_PARAMETER)
    name, method = call.parameters
    if not isinstance(name, bytes) or not isinstance(method, bytes):
        raise MethodFailed(Status.INVALID_PARAMETER)
    aces = tper.provider(session).access.get((name, method))
    if aces is None:
        raise MethodFailed(Status.NOT_AUTHORIZED)
    return [list(aces)]
