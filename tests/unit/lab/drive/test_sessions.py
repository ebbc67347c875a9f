"""The session manager: who gets a session, and what ends it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from appliance.lab.drive.interface import Refused
from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import (
    ADMIN_SP,
    C_PIN_MSID,
    COMID,
    DATA_STORE,
    INVALID_PARAMETER,
    LOCKING_SP,
    NO_SESSIONS,
    NOT_AUTHORIZED,
    OK,
    OVERFLOW,
    PROPERTIES,
    RANDOM,
    SID,
    SMUID,
    SP_BUSY,
    START_SESSION,
    THIS_SP,
    Host,
    admin,
    atom,
    compacket,
    name,
    parse,
    user,
)

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import Bench

NOTHING = struct.pack(">IHHIII", 0, COMID, 0, 0, 0, 0)


def test_properties_tell_limits_and_take_the_hosts(bench: Bench) -> None:
    wanted = name(
        0, b"\xf0" + name(b"MaxComPacketSize", atom(4096)) + name(b"MaxPackets", atom(9)) + b"\xf1"
    )
    answer = bench.host.call(SMUID, PROPERTIES, wanted)
    assert answer.status == OK
    told = answer.columns  # the host's come last, under the same names
    assert told[b"MaxComPacketSize"] == 4096
    assert told[b"MaxPackets"] == 9
    assert told[b"MaxIndTokenSize"] == 1992
    assert answer.tokens[:6] == ["CALL", SMUID, PROPERTIES, "SL", "SL", "SN"]
    alone = bench.host.call(SMUID, PROPERTIES).columns
    assert alone[b"MaxComPacketSize"] == 65536
    assert alone[b"MaxSessions"] == 1
    assert bench.host.call(SMUID, PROPERTIES, name(1, b"\xf0\xf1")).status == INVALID_PARAMETER


def test_a_session_has_the_numbers_of_both_sides(bench: Bench) -> None:
    assert bench.host.start(ADMIN_SP) == OK
    assert bench.host.hsn == 0x41
    first = bench.host.tsn
    bench.host.end()
    bench.host.start(ADMIN_SP)
    assert bench.host.tsn == first + 1


def test_one_session_at_a_time(owned: Bench) -> None:
    """A session that a dead host left open: SP_BUSY, until the stack is reset or power fails."""
    owned.host.start(ADMIN_SP)
    other = Host(owned.security)
    assert other.start(ADMIN_SP) == SP_BUSY
    assert other.start(LOCKING_SP) == NO_SESSIONS
    owned.security.send(2, COMID, struct.pack(">HHI", COMID, 0, 2).ljust(512, b"\0"))
    answer = owned.security.receive(2, COMID, 512)
    assert struct.unpack_from(">HHIHHI", answer) == (COMID, 0, 2, 0, 4, 0)
    assert other.start(LOCKING_SP) == OK
    owned.lose_power()
    assert owned.host.start(ADMIN_SP) == OK


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        (b"", INVALID_PARAMETER),
        (atom(0x41) + atom(ADMIN_SP), INVALID_PARAMETER),
        (atom(0x41) + atom(ADMIN_SP) + b"\x00", INVALID_PARAMETER),  # read-only
        (atom(0x41) + atom(THIS_SP) + b"\x01", INVALID_PARAMETER),
        (atom(b"x") + atom(ADMIN_SP) + b"\x01", INVALID_PARAMETER),
        (atom(0x41) + atom(ADMIN_SP) + b"\x01" + name(5, atom(0)), INVALID_PARAMETER),
        (atom(0x41) + atom(ADMIN_SP) + b"\x01" + name(3, atom(5)), INVALID_PARAMETER),
        (atom(0x41) + atom(ADMIN_SP) + b"\x01" + name(3, atom(SID)), NOT_AUTHORIZED),  # no PIN
        (atom(0x41) + atom(LOCKING_SP) + b"\x01" + name(3, atom(SID)), INVALID_PARAMETER),  # not its
        (atom(0x41) + atom(LOCKING_SP) + b"\x01" + name(3, atom(user(1))), NOT_AUTHORIZED),  # disabled
        (atom(0x41) + atom(LOCKING_SP) + b"\x01" + name(3, atom(user(99))), INVALID_PARAMETER),
        (
            atom(0x41) + atom(LOCKING_SP) + b"\x01" + name(3, atom(bytes.fromhex("0000000900000002"))),
            INVALID_PARAMETER,  # a class
        ),
        (
            atom(0x41) + atom(LOCKING_SP) + b"\x01" + name(0, atom(b"wrong")) + name(3, atom(admin(1))),
            NOT_AUTHORIZED,
        ),
    ],
)
def test_no_session_is_had_by(owned: Bench, parameters: bytes, status: int) -> None:
    answer = owned.host.call(SMUID, START_SESSION, parameters)
    assert answer.status == status
    assert owned.tper.session is None


def test_another_sessions_number_is_nobody(owned: Bench) -> None:
    owned.host.start(ADMIN_SP)
    assert owned.host.exchange(b"\xfa", tsn=owned.host.tsn + 1)[:20] == NOTHING
    assert owned.host.exchange(b"\xfa", hsn=owned.host.hsn + 1)[:20] == NOTHING
    owned.host.end()


def test_a_violation_ends_the_session_and_has_no_answer(owned: Bench) -> None:
    owned.host.start(ADMIN_SP)
    assert owned.host.exchange(b"\xf8\xf4")[:20] == NOTHING
    assert owned.tper.session is None


def test_a_violation_outside_of_sessions_is_discarded(owned: Bench) -> None:
    owned.host.start(ADMIN_SP)
    assert owned.host.exchange(b"\xf8\xf4", tsn=0, hsn=0)[:20] == NOTHING
    owned.host.end()


def test_what_does_not_fit_waits_for_a_larger_buffer(owned: Bench) -> None:
    owned.host.start(ADMIN_SP)
    payload = b"\xf8" + atom(C_PIN_MSID) + bytes.fromhex("a80000000600000016 f0f0f1f1 f9f0000000f1")
    owned.security.send(1, COMID, compacket(payload, owned.host.tsn, owned.host.hsn))
    short = owned.security.receive(1, COMID, 32)
    _, _, _, waiting, least, length = struct.unpack_from(">IHHIII", short)
    assert (waiting, least, length) == (waiting, waiting, 0)
    assert waiting > 32
    whole = owned.security.receive(1, COMID, waiting)
    assert owned.profile.msid.encode() in parse(whole)
    assert owned.security.receive(1, COMID, 20) == NOTHING


def test_an_answer_larger_than_the_host_takes_is_overflow(owned: Bench) -> None:
    owned.host.as_admin(PIN)
    asked = b"\xf0" + name(1, atom(0)) + name(2, atom(1990)) + b"\xf1"
    answer = owned.host.call(DATA_STORE, bytes.fromhex("0000000600000016"), asked)
    assert answer.status == OVERFLOW
    owned.host.end()
    owned.host.tsn = owned.host.hsn = 0
    owned.host.call(SMUID, PROPERTIES, name(0, b"\xf0" + name(b"MaxComPacketSize", atom(8192)) + b"\xf1"))
    owned.host.buffer = 8192
    owned.host.as_admin(PIN)
    assert owned.host.call(DATA_STORE, bytes.fromhex("0000000600000016"), asked).status == OK


def test_random_gives_what_is_asked_for_and_no_more(bench: Bench) -> None:
    bench.host.start(ADMIN_SP)
    first, second = (bench.host.call(THIS_SP, RANDOM, atom(32)).at(1) for _ in range(2))
    assert len(first) == len(second) == 32
    assert first != second
    assert bench.host.call(THIS_SP, RANDOM, atom(33)).status == INVALID_PARAMETER
    assert bench.host.call(THIS_SP, RANDOM, atom(0)).status == INVALID_PARAMETER


@pytest.mark.parametrize(
    ("protocol", "specific"), [(0, 0), (1, 1), (1, 2), (1, 0x0FFF), (2, 4), (2, 6), (2, COMID), (0xEF, 0)]
)
def test_the_interface_refuses_to_take(bench: Bench, protocol: int, specific: int) -> None:
    with pytest.raises(Refused):
        bench.security.send(protocol, specific, bytes(512))


@pytest.mark.parametrize(("protocol", "specific"), [(0, 2), (1, 2), (1, 4), (2, 1), (3, COMID)])
def test_the_interface_refuses_to_give(bench: Bench, protocol: int, specific: int) -> None:
    with pytest.raises(Refused):
        bench.security.receive(protocol, specific, 512)


def test_more_than_a_compacket_is_refused(bench: Bench) -> None:
    with pytest.raises(Refused):
        bench.security.send(1, COMID, bytes(65537))


def test_a_transaction_that_is_aborted_or_left_has_not_been(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    kept = owned.kept
    assert parse(host.exchange(b"\xfb\x00")) == ["ST", 0]
    assert host.set(user(1), c5=1) == OK
    assert owned.kept == kept
    assert parse(host.exchange(b"\xfc\x01")) == ["ET", 0]
    assert host.get(user(1), 5).columns == {5: 0}
    host.exchange(b"\xfb\x00")
    host.set(user(1), c5=1)
    host.end()
    assert host.as_admin(PIN).get(user(1), 5).columns == {5: 0}
    host.exchange(b"\xfb\x00")
    host.set(user(1), c5=1)
    assert parse(host.exchange(b"\xfc\x00")) == ["ET", 0]
    owned.lose_power()
    assert owned.host.as_admin(PIN).get(user(1), 5).columns == {5: 1}
