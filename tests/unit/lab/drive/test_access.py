"""Who may do what: the rows of AccessControl and ACE, asked as hosts do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import (
    ACTIVATE,
    ADMIN_SP,
    ANYBODY,
    AUTHENTICATE,
    AUTHORITY_REFERENCE,
    BOOLEAN_ACE,
    C_PIN_MSID,
    C_PIN_SID,
    DATA_STORE,
    ERASE,
    GEN_KEY,
    GET,
    GET_ACL,
    INVALID_PARAMETER,
    LOCKING_SP,
    MBR,
    MBR_CONTROL,
    NEXT,
    NOT_AUTHORIZED,
    OK,
    PSID,
    REVERT,
    REVERT_SP,
    SET,
    SID,
    THIS_SP,
    ace,
    admin,
    atom,
    locking,
    name,
    pin_of,
    user,
    values,
)

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import Bench

ADMINS = bytes.fromhex("0000000900000002")
KEY_OF_GLOBAL, KEY_OF_1 = bytes.fromhex("0000080600000001"), bytes.fromhex("0000080600030001")
LOCKING_INFO = bytes.fromhex("0000080100000001")
AUTHORITY_TABLE = bytes.fromhex("0000000900000000")
TPER_INFO = bytes.fromhex("0000020100030001")


def expression(*authorities: bytes, operator: int = 1) -> bytes:
    found = b""
    for at, who in enumerate(authorities):
        found += name(AUTHORITY_REFERENCE, atom(who))
        found += name(BOOLEAN_ACE, atom(operator)) if at else b""
    return b"\xf0" + found + b"\xf1"


@pytest.fixture
def with_user(owned: Bench) -> Bench:
    """User1 is enabled and has a PIN."""
    host = owned.host.as_admin(PIN)
    assert host.set(user(1), c5=1) == OK
    assert host.set(pin_of(user(1)), c3=b"user") == OK
    host.end()
    return owned


@pytest.mark.parametrize(
    ("row", "method", "parameters"),
    [
        (C_PIN_SID, SET, values(c3=b"new")),
        (C_PIN_SID, GET, b"\xf0\xf1"),
        (C_PIN_MSID, SET, values(c3=b"new")),
        (LOCKING_SP, ACTIVATE, b""),
        (LOCKING_SP, REVERT, b""),
        (ADMIN_SP, REVERT, b""),
        (TPER_INFO, SET, values(c8=1)),
        (THIS_SP, REVERT_SP, b""),
        (bytes(8), GET, b"\xf0\xf1"),
    ],
)
def test_anybody_may_not_in_the_admin_sp(
    owned: Bench, row: bytes, method: bytes, parameters: bytes
) -> None:
    owned.host.start(ADMIN_SP)
    kept = owned.kept
    assert owned.host.call(row, method, parameters).status == NOT_AUTHORIZED
    assert owned.kept == kept


@pytest.mark.parametrize(
    ("row", "method", "parameters"),
    [
        (locking(1), SET, values(c7=0)),
        (locking(1), SET, values(c3=8, c4=8)),
        (locking(0), SET, values(c5=0)),
        (locking(1), ERASE, b""),
        (KEY_OF_GLOBAL, GEN_KEY, b""),
        (KEY_OF_1, GEN_KEY, b""),
        (KEY_OF_1, SET, values(c3=bytes(64))),
        (pin_of(admin(1)), SET, values(c3=b"mine")),
        (pin_of(user(2)), SET, values(c3=b"mine")),
        (pin_of(user(1)), GET, b"\xf0\xf1"),
        (admin(2), SET, values(c5=1)),
        (user(2), SET, values(c5=1)),
        (ace(0x3E001), SET, values(r3=expression(user(1)))),
        (ace(0x3E001), GET, b"\xf0\xf1"),
        (MBR_CONTROL, SET, values(c1=0)),
        (MBR, SET, name(1, atom(b"boot"))),
        (DATA_STORE, SET, name(1, atom(b"data"))),
        (DATA_STORE, GET, b"\xf0\xf1"),
        (LOCKING_INFO, SET, values(c4=9)),
        (THIS_SP, REVERT_SP, b""),
    ],
)
@pytest.mark.parametrize("who", ["anybody", "user"])
def test_neither_anybody_nor_a_user_may_in_the_locking_sp(
    with_user: Bench, who: str, row: bytes, method: bytes, parameters: bytes
) -> None:
    host, kept = with_user.host, with_user.kept
    assert host.start(LOCKING_SP, *((user(1), "user") if who == "user" else ())) == OK
    assert host.call(row, method, parameters).status == NOT_AUTHORIZED
    assert with_user.kept == kept


@pytest.mark.parametrize(
    ("row", "method", "parameters"),
    [
        (admin(1), SET, values(c5=0)),  # the first administrator cannot be disabled
        (locking(0), SET, values(c3=8)),  # the global range is what others leave
        (locking(1), SET, values(c10=KEY_OF_GLOBAL)),
        (locking(1), ERASE, b""),  # single user mode only: cryptsetup then takes GenKey
        (KEY_OF_1, SET, values(c3=bytes(64))),
        (LOCKING_INFO, SET, values(c4=9)),
        (ace(0x39001), SET, values(r3=expression(user(1)))),  # Table 38 does not list it
        (pin_of(user(1)), SET, values(c5=0)),  # the try limit
    ],
)
def test_not_even_the_administrator_may(owned: Bench, row: bytes, method: bytes, parameters: bytes) -> None:
    owned.host.as_admin(PIN)
    assert owned.host.call(row, method, parameters).status == NOT_AUTHORIZED


def test_get_tells_only_the_columns_one_may_read(with_user: Bench) -> None:
    host = with_user.host.as_admin(PIN)
    assert set(host.get(pin_of(user(1))).columns) == {0, 4, 5, 6, 7}  # and no PIN
    assert set(host.get(KEY_OF_1).columns) == {4}  # and no key
    assert host.get(KEY_OF_1, 3).columns == {}
    assert set(host.get(locking(1)).columns) == {0, 2, 3, 4, 5, 6, 7, 8, 9, 10}
    assert host.get(locking(1), 3, 4).columns == {3: 0, 4: 0}
    host.end()
    host.start(LOCKING_SP, user(1), "user")
    assert set(host.get(locking(1)).columns) == {0, 2}
    assert host.get(locking(1), 3, 10).columns == {}


def test_a_user_has_what_the_administrator_gives_and_nothing_else(with_user: Bench) -> None:
    host = with_user.host
    host.give_range_to(PIN, 1, user(1))
    host.set_up_range(PIN, 1, 8, 80)
    host.set_up_range(PIN, 2, 160, 80)
    assert host.lock("user", 1, read=1, write=1, who=user(1)) == OK
    assert host.lock("user", 2, read=1, write=1, who=user(1)) == NOT_AUTHORIZED
    host.start(LOCKING_SP, user(1), "user")
    assert host.get(locking(1), 3, 8).columns == {3: 8, 4: 80, 5: 1, 6: 1, 7: 1, 8: 1}
    assert host.get(locking(2), 3, 8).columns == {}
    # One column that may be set and one that may not: neither is.
    assert host.set(locking(1), c7=0, c5=0) == NOT_AUTHORIZED
    assert host.get(locking(1), 5, 7).columns == {5: 1, 6: 1, 7: 1}
    host.end()
    # The administrator lost the two ACEs with the user's name in them, and has others.
    assert host.lock(PIN, 1, read=0, write=0) == OK


@pytest.mark.parametrize(
    ("operator", "first", "second", "allowed"),
    [
        (1, "user", "other", True),
        (0, "user", "other", False),
        (0, "user", "user", True),
        (1, "other", "other", False),
    ],
)
def test_expressions_are_and_and_or(
    with_user: Bench, operator: int, first: str, second: str, allowed: bool
) -> None:
    who = {"user": user(1), "other": user(2)}
    host = with_user.host.as_admin(PIN)
    assert host.set(ace(0x3E001), r3=expression(who[first], who[second], operator=operator)) == OK
    host.end()
    host.start(LOCKING_SP, user(1), "user")
    assert (host.set(locking(1), c7=1) == OK) is allowed


@pytest.mark.parametrize(
    "wrong",
    [
        expression(user(99)),
        expression(),
        b"\xf0" + name(BOOLEAN_ACE, b"\x01") + b"\xf1",
        b"\xf0" + name(AUTHORITY_REFERENCE, atom(user(1))) * 2 + b"\xf1",
        b"\xf0" + name(AUTHORITY_REFERENCE, atom(user(1))) * 2 + name(BOOLEAN_ACE, b"\x05") + b"\xf1",
        b"\xf0" + name(b"\0\0\0\0", atom(user(1))) + b"\xf1",
        b"\xf0" + atom(user(1)) + b"\xf1",
        atom(5),
    ],
)
def test_an_expression_that_is_none_is_refused(owned: Bench, wrong: bytes) -> None:
    host = owned.host.as_admin(PIN)
    assert host.set(ace(0x3E001), r3=wrong) == INVALID_PARAMETER
    assert host.set(locking(1), c7=0) == OK


def test_a_users_own_pin_is_for_administrators_and_perhaps_the_user(with_user: Bench) -> None:
    host = with_user.host
    host.start(LOCKING_SP, user(1), "user")
    assert host.set(pin_of(user(1)), c3=b"mine") == OK
    host.end()
    host.as_admin(PIN)
    assert host.set(ace(0x3A801), r3=expression(ADMINS, user(2))) == INVALID_PARAMETER
    assert host.set(ace(0x3A801), r3=expression(ADMINS)) == OK
    host.end()
    host.start(LOCKING_SP, user(1), "mine")
    assert host.set(pin_of(user(1)), c3=b"again") == NOT_AUTHORIZED


def test_authorities_are_listed_and_named(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    listed = [token for token in host.call(AUTHORITY_TABLE, NEXT).tokens if isinstance(token, bytes)]
    assert listed == [ANYBODY, ADMINS, bytes.fromhex("0000000900030000")][:2] + listed[2:]
    assert {admin(number) for number in range(1, 5)} | {user(number) for number in range(1, 10)} <= set(
        listed
    )
    row = host.get(user(3)).columns
    assert (row[1], row[3], row[4], row[5], row[10]) == (
        b"User3",
        0,
        bytes.fromhex("0000000900030000"),
        0,
        pin_of(user(3)),
    )
    behind = host.call(AUTHORITY_TABLE, NEXT, name(0, atom(user(8))) + name(1, atom(5)))
    assert behind.tokens[:5] == ["SL", "SL", user(9), "EL", "EL"]
    assert host.call(AUTHORITY_TABLE, NEXT, name(0, atom(user(99)))).status == INVALID_PARAMETER


def test_the_elements_of_a_method_are_told(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    answer = host.call(bytes.fromhex("0000000700000000"), GET_ACL, atom(locking(1)) + atom(SET))
    assert answer.tokens[2:6] == [ace(0x3F001), ace(0x3E001), ace(0x3E801), ace(4)]
    assert (
        host.call(bytes.fromhex("0000000700000000"), GET_ACL, atom(locking(1)) + atom(ERASE)).status
        == NOT_AUTHORIZED
    )


def test_further_authorities_come_by_authenticate(with_user: Bench) -> None:
    host = with_user.host
    host.start(LOCKING_SP)
    assert host.set(locking(1), c7=0) == NOT_AUTHORIZED
    assert host.call(THIS_SP, AUTHENTICATE, atom(admin(1)) + name(0, atom(b"wrong"))).at(1) == 0
    assert host.set(locking(1), c7=0) == NOT_AUTHORIZED
    assert host.call(THIS_SP, AUTHENTICATE, atom(admin(1)) + name(0, atom(PIN.encode()))).at(1) == 1
    assert host.set(locking(1), c7=0) == OK
    assert host.call(THIS_SP, AUTHENTICATE, atom(5)).status == INVALID_PARAMETER


def test_sid_and_psid_are_of_the_admin_sp(owned: Bench) -> None:
    assert owned.host.start(LOCKING_SP, SID, PIN) == INVALID_PARAMETER
    assert owned.host.start(LOCKING_SP, PSID, owned.profile.psid) == INVALID_PARAMETER
    assert owned.host.start(ADMIN_SP, admin(1), PIN) == INVALID_PARAMETER


@pytest.mark.parametrize(
    "parameters",
    [
        b"",
        b"\xf0\xf1\xf0\xf1",
        b"\xf0" + name(9, b"\x01") + b"\xf1",
        b"\xf0" + name(3, atom(b"x")) + b"\xf1",
    ],
)
def test_get_takes_one_cell_block(owned: Bench, parameters: bytes) -> None:
    owned.host.as_admin(PIN)
    assert owned.host.call(locking(1), GET, parameters).status == INVALID_PARAMETER


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (locking(1), {"c3": b"8"}),
        (locking(1), {"c5": 2}),
        (locking(1), {"c7": b"\x01"}),
        (locking(1), {"r9": b"\xf0\x01\xf1"}),
        (locking(1), {"r9": b"\x00"}),
        (MBR_CONTROL, {"r3": b"\xf0\xf1"}),
        (MBR_CONTROL, {"c1": 3}),
        (pin_of(user(1)), {"c3": b"x" * 33}),
        (pin_of(user(1)), {"c3": 5}),
        (user(1), {"c5": 7}),
        (user(1), {"c2": b"x" * 33}),
    ],
)
def test_values_that_a_column_does_not_take(
    owned: Bench, row: bytes, columns: dict[str, int | bytes]
) -> None:
    host, kept = owned.host.as_admin(PIN), owned.kept
    assert host.set(row, **columns) == INVALID_PARAMETER
    assert owned.kept == kept


def test_cryptographic_erase_is_the_one_way_to_remove_data(owned: Bench) -> None:
    mechanism = bytes.fromhex("0000110100000001")
    owned.host.start(ADMIN_SP, SID, PIN)
    assert owned.host.set(mechanism, c1=2) == OK
    assert owned.host.set(mechanism, c1=0) == INVALID_PARAMETER
    assert owned.host.get(mechanism).columns[1] == 2


@pytest.mark.parametrize(
    ("row", "block"),
    [
        (DATA_STORE, name(1, atom(5)) + name(2, atom(4))),
        (DATA_STORE, name(1, atom(0)) + name(2, atom(10 << 20))),
        (DATA_STORE, name(1, atom(b"first"))),
        (locking(1), name(1, atom(0))),  # rows of an object, which has none
        (locking(1), name(3, atom(0)) + name(3, atom(1))),
    ],
)
def test_cells_that_are_not_there(owned: Bench, row: bytes, block: bytes) -> None:
    owned.host.as_admin(PIN)
    assert owned.host.call(row, GET, b"\xf0" + block + b"\xf1").status == INVALID_PARAMETER


def test_byte_tables_keep_bytes(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    assert host.call(DATA_STORE, SET, name(0, atom(100)) + name(1, atom(b"kept here"))).status == OK
    block = b"\xf0" + name(1, atom(98)) + name(2, atom(112)) + b"\xf1"
    assert host.call(DATA_STORE, GET, block).at(1) == b"\0\0kept here\0\0\0\0"
    end = 10 << 20
    assert (
        host.call(DATA_STORE, SET, name(0, atom(end - 3)) + name(1, atom(b"1234"))).status
        == INVALID_PARAMETER
    )
    assert host.call(DATA_STORE, SET, name(0, atom(end - 4)) + name(1, atom(b"1234"))).status == OK
    size = host.get(bytes.fromhex("0000000100001001"), 7).columns[7]
    assert size == end
