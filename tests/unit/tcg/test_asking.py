"""A host's side of sessions: what is asked, and what is made of whatever comes back."""

from __future__ import annotations

import pytest

from appliance.tcg.acts import open_owner, open_ranges, read_names
from appliance.tcg.asking import BUFFER, PATIENCE, DriveSilent, MethodRefused, Session
from appliance.tcg.packets import Packet, empty, pack
from appliance.tcg.stream import StreamViolation, call, encode, read_answer, result
from appliance.tcg.uids import (
    ADMIN_SP,
    C_PIN_MSID,
    LOCKING_SP,
    SESSION_MANAGER,
    SID,
    Common,
    Method,
    PinColumn,
    admin,
    locking_range,
)
from tests.unit.lab.drive.conftest import PIN, Bench, bench, new_bench, owned

__all__ = ["bench", "new_bench", "owned"]

COMID = 0x1000


class Scripted:
    """A drive that answers with what it was given, one after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.sent: list[bytes] = []

    def send(self, protocol: int, specific: int, data: bytes) -> None:
        assert (protocol, specific, len(data)) == (1, COMID, BUFFER)
        self.sent.append(data)

    def receive(self, protocol: int, specific: int, length: int) -> bytes:
        assert (protocol, specific, length) == (1, COMID, BUFFER)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def packed(payload: bytes) -> bytes:
    return pack(Packet(COMID, 0, 0, payload)).ljust(BUFFER, b"\0")


STARTED = packed(call(SESSION_MANAGER, Method.SYNC_SESSION, [0x41, 0x1001]))


def test_anybody_reads_what_is_anybodys(bench: Bench) -> None:
    with Session(bench.security, COMID, ADMIN_SP) as session:
        assert session.get(C_PIN_MSID, PinColumn.PIN) == bench.profile.msid.encode()
    assert bench.tper.session is None, "it ends with the context"


def test_what_may_not_be_read_is_empty(owned: Bench) -> None:
    with Session(owned.security, COMID, LOCKING_SP) as session:
        assert session.get(admin(1), PinColumn.PIN) == b""


def test_a_wrong_pin_is_refused_by_name_and_tried_once(owned: Bench) -> None:
    tries = []
    owned.tper.log = tries.append
    with pytest.raises(MethodRefused, match="StartSession: NOT_AUTHORIZED"):
        Session(owned.security, COMID, ADMIN_SP, SID, b"wrong")
    assert tries == ["StartSession"]


def test_a_refused_method_ends_its_session(owned: Bench) -> None:
    with (
        pytest.raises(MethodRefused, match="Set: NOT_AUTHORIZED"),
        Session(owned.security, COMID, LOCKING_SP) as session,
    ):
        session.set(admin(1), {Common.COMMON_NAME: b"x"})
    assert owned.tper.session is None


def test_a_status_that_nobody_knows_is_told_as_a_number() -> None:
    drive = Scripted(packed(call(SESSION_MANAGER, Method.SYNC_SESSION, [], 0x2A)))
    with pytest.raises(MethodRefused, match="StartSession: 2ah"):
        Session(drive, COMID, ADMIN_SP)


def test_a_drive_that_needs_time_is_asked_again() -> None:
    waits: list[float] = []
    drive = Scripted(*[empty(COMID).ljust(BUFFER, b"\0")] * 3, STARTED)
    Session(drive, COMID, ADMIN_SP, wait=waits.append)
    assert (len(waits), len(drive.sent)) == (3, 1)


def test_nobody_waits_for_ever() -> None:
    waits: list[float] = []
    with pytest.raises(DriveSilent, match="no answer"):
        Session(Scripted(empty(COMID).ljust(BUFFER, b"\0")), COMID, ADMIN_SP, wait=waits.append)
    assert PATIENCE - 1 < sum(waits) < PATIENCE + 1


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff" * BUFFER,
        packed(b"\xf0"),
        packed(b"\xfa"),
        packed(call(SESSION_MANAGER, Method.SYNC_SESSION, [])),
        packed(call(SESSION_MANAGER, Method.SYNC_SESSION, [0x42, 0x1001])),
        packed(call(SESSION_MANAGER, Method.SYNC_SESSION, [0x41, b"x"])),
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with pytest.raises(DriveSilent):
        Session(Scripted(answer), COMID, ADMIN_SP)


def test_of_a_drive_that_stopped_answering_nothing_more_is_asked() -> None:
    drive = Scripted(STARTED, packed(b"\xf0"))
    with pytest.raises(DriveSilent), Session(drive, COMID, ADMIN_SP) as session:
        session.get(C_PIN_MSID, PinColumn.PIN)
    assert len(drive.sent) == 2


@pytest.mark.parametrize("told", ["nothing", "a refusal"])
def test_ranges_that_were_given_to_a_user_are_opened_all_the_same(owned: Bench, told: str) -> None:
    """An administrator may not read where they lie; some drives say so by leaving it out, some refuse."""
    owned.host.give_range_to(PIN, 1, bytes.fromhex("0000000900030001"))
    assert owned.host.set_up_range(PIN, 1, 80, 80) == 0
    assert owned.host.lock(PIN, 1, read=1, write=1) == 0
    if told == "a refusal":
        owned.tper.locking.access[locking_range(1), Method.GET] = ()
    found = open_ranges(owned.security, COMID, PIN.encode())
    assert found["ranges"] == [{"range": 0, "start": 0, "length": 0}, {"range": 1}]
    assert owned.media.read(80, 80) == bytes(80 * 512)
    assert owned.tper.locking.rows[locking_range(1)][8] == 1, "writing stays locked"


def test_a_pin_that_nobody_can_read_is_given_to_nobody(owned: Bench) -> None:
    owned.tper.admin.rows[C_PIN_MSID][PinColumn.PIN] = b""
    with pytest.raises(DriveSilent, match="cannot be read"):
        open_owner(owned.security, COMID, PIN.encode())
    assert owned.host.start(ADMIN_SP, SID, PIN) == 0


def test_names_are_read_without_a_pin(owned: Bench) -> None:
    owned.host.as_admin(PIN)
    assert owned.host.set(admin(2), c2=b"a name") == 0
    owned.host.end()
    assert read_names(owned.security, COMID) == {"first": "", "second": "a name"}


# --- answers --------------------------------------------------------------------------------------------


def test_answers_are_read_in_a_session_and_of_its_manager() -> None:
    assert read_answer(result([[1, b"x"]], 0)) == ([[1, b"x"]], 0)
    assert read_answer(result([], 0x12)) == ([], 0x12)
    assert read_answer(call(SESSION_MANAGER, Method.SYNC_SESSION, [1, 2])) == ([1, 2], 0)


BAD: dict[str, bytes] = {
    "nothing": b"",
    "the end of a session": b"\xfa",
    "no list": encode(5) + b"\xf9" + encode([0, 0, 0]),
    "no end": encode([]) + encode([0, 0, 0]),
    "no status": encode([]) + b"\xf9",
    "an empty status list": encode([]) + b"\xf9" + encode([]),
    "a status that is text": encode([]) + b"\xf9" + encode([b"0", 0, 0]),
    "something behind it": result([], 0) + b"\x00",
    "half a call": b"\xf8" + encode(SESSION_MANAGER),
}


@pytest.mark.parametrize("name", BAD)
def test_answers_that_are_none(name: str) -> None:
    with pytest.raises(StreamViolation):
        read_answer(BAD[name])
