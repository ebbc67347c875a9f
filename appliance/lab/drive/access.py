"""Who may do what: access control elements against the authorities a session has.

TCG Storage Opal SSC 2.30, sections 4.2.1.5 and 4.3.1.6: a method on an object is allowed when one of the
elements associated with the two is fulfilled; Get and Set reach the columns that fulfilled elements name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.lab.drive.provider import AUTHORITY_REFERENCE, BOOLEAN_OPERATOR
from appliance.tcg.status import MethodFailed, Status
from appliance.tcg.stream import Named
from appliance.tcg.uids import ANYBODY, AceColumn, AuthorityColumn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.lab.drive.provider import SecurityProvider
    from appliance.tcg.stream import Value

_AND, _OR, _NOT = range(3)


def held(sp: SecurityProvider, authenticated: Iterable[bytes]) -> frozenset[bytes]:
    """The authorities of a session: whom it authenticated, their classes, and anybody."""
    found = {ANYBODY, *authenticated}
    found |= {of for who in authenticated if isinstance(of := sp.rows[who][AuthorityColumn.CLASS], bytes)}
    return frozenset(found)


def fulfilled(expression: Value, authorities: frozenset[bytes]) -> bool:
    """Whether a BooleanExpr in postfix is true of these authorities.

    Raises:
        ValueError: it is no expression.
    """
    if not isinstance(expression, list):
        raise ValueError("an expression is a list")  # noqa: TRY004 - a wrong value from the host
    stack: list[bool] = []
    for item in expression:
        if not isinstance(item, Named):
            raise ValueError("an expression has references and operators only")  # noqa: TRY004 - as above
        if item.name == AUTHORITY_REFERENCE and isinstance(item.value, bytes):
            stack.append(item.value in authorities)
        elif item.name == BOOLEAN_OPERATOR and item.value == _NOT and stack:
            stack.append(not stack.pop())
        elif item.name == BOOLEAN_OPERATOR and item.value in {_AND, _OR} and len(stack) > 1:
            last, before = stack.pop(), stack.pop()
            stack.append(last and before if item.value == _AND else last or before)
        else:
            raise ValueError("an operator that is unknown or lacks operands")
    if len(stack) != 1:
        raise ValueError("an expression has one value")
    return stack[0]


def allowed_columns(
    sp: SecurityProvider, invoking: bytes, method: bytes, authorities: frozenset[bytes]
) -> frozenset[int] | None:
    """The columns that a method on an object may reach; None for all of them.

    Raises:
        MethodFailed: NOT_AUTHORIZED.
    """
    columns: set[int] = set()
    granted = False
    for ace in sp.access.get((invoking, method), ()):
        row = sp.rows[ace]
        if not fulfilled(row[AceColumn.BOOLEAN_EXPR], authorities):
            continue
        granted = True
        named = row[AceColumn.COLUMNS]
        if not named:
            return None
        if isinstance(named, list):
            columns |= {column for column in named if isinstance(column, int)}
    if not granted:
        raise MethodFailed(Status.NOT_AUTHORIZED)
    return frozenset(columns)
