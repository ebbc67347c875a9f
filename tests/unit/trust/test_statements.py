"""Statements are read in one spelling only, and say exactly what their type allows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import StatementInvalid
from appliance.trust.canonical import canonical_bytes
from appliance.trust.statements import (
    NOTHING_LOST,
    Admission,
    DrivePermit,
    Enrolment,
    Permit,
    Release,
    Statement,
    Time,
    Waiver,
    parse_statement,
    role_for,
    statement_bytes,
    statement_name,
)

if TYPE_CHECKING:
    from appliance.trust.root import Root

D, N, J = "d" * 64, "1" * 64, "a" * 32
ADMISSION = Admission(D, "demo", "1.0.0", 7, ("gpu-01", "gpu-02"))
PERMIT = Permit("gpu-01", J, N, "demo", Release(8, D), Release(7, "e" * 64), "the new one does not start")
WAIVER = Waiver("gpu-01", J, N, D, "the vendor is on holiday")
TIME = Time("gpu-01", J, N, "2026-02-28T23:59:59Z")
ENROLMENT = Enrolment("gpu-01", N, "new disk", {"demo": 7})
VOLUME = "6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b"
DRIVES = DrivePermit("gpu-01", "retire", {"S6C/1 %": VOLUME}, "2026-02-28T23:59:59Z", N, "ticket 4711")
NEW = DrivePermit(
    "gpu-01", "enroll", {"A": NOTHING_LOST, "B": NOTHING_LOST}, "2026-02-28T23:59:59Z", N, "x"
)
ALL = [ADMISSION, PERMIT, WAIVER, TIME, ENROLMENT, DRIVES, NEW]


@pytest.mark.parametrize("statement", ALL, ids=lambda each: type(each).__name__)
def test_a_statement_is_read_back(statement: Statement) -> None:
    assert parse_statement(statement_bytes(statement)) == statement
    assert statement_name(statement).replace("-", "").startswith(type(statement).__name__.lower()) or (
        isinstance(statement, DrivePermit) and statement_name(statement) == f"drive-permit.{N[:16]}.json"
    )


def test_who_signs_what(two_of_three: Root) -> None:
    """Without the role site, who releases also waives and enrols; nobody admits."""
    roles = {type(each).__name__: role_for(each, two_of_three) for each in ALL}
    assert roles == {
        "Admission": "site",
        "Permit": "release",
        "Waiver": "release",
        "Time": "time",
        "Enrolment": "release",
        "DrivePermit": "release",
    }


def test_whom_an_admission_admits() -> None:
    assert ADMISSION.admits(D, "gpu-02")
    assert not ADMISSION.admits(D, "gpu-03")
    assert not ADMISSION.admits("e" * 64, "gpu-01")
    assert Admission(D, "demo", "1.0.0", 7, ("*",)).admits(D, "any")


WRONG: dict[str, tuple[Statement, dict[str, Any]]] = {
    "another format": (TIME, {"format": 2}),
    "an unknown type": (TIME, {"type": "blessing"}),
    "another's type": (TIME, {"type": "waiver"}),
    "a key more": (TIME, {"force": True}),
    "a node with a path": (TIME, {"node": "../gpu"}),
    "a node as a pattern": (TIME, {"node": "*"}),
    "a short nonce": (TIME, {"nonce": "1"}),
    "a nonce in capitals": (TIME, {"nonce": "A" * 64}),
    "a journal of another length": (TIME, {"journal": "a" * 64}),
    "no such day": (TIME, {"time": "2026-02-30T00:00:00Z"}),
    "a time zone": (TIME, {"time": "2026-02-28T00:00:00+01:00"}),
    "a time before years had four digits": (TIME, {"time": "0000-01-01T00:00:00Z"}),
    "other digits in a time": (TIME, {"time": "\uff12026-02-28T00:00:00Z"}),
    "nodes out of order": (ADMISSION, {"nodes": ["b", "a"]}),
    "a node twice": (ADMISSION, {"nodes": ["a", "a"]}),
    "no nodes": (ADMISSION, {"nodes": []}),
    "every node and one more": (ADMISSION, {"nodes": ["*", "a"]}),
    "too many nodes": (ADMISSION, {"nodes": [f"n{number:04}" for number in range(1001)]}),
    "nodes as text": (ADMISSION, {"nodes": "a"}),
    "a number for a node": (ADMISSION, {"nodes": [1]}),
    "a permit forwards": (PERMIT, {"to": {"sequence": 9, "digest": D}}),
    "a permit on the spot": (PERMIT, {"to": {"sequence": 8, "digest": D}}),
    "a permit from anywhere": (PERMIT, {"from": {"sequence": 8}}),
    "a permit without a reason": (PERMIT, {"reason": ""}),
    "a reason with escapes": (PERMIT, {"reason": "\x1b[2J"}),
    "a sequence beyond all": (ADMISSION, {"sequence": 2**53}),
    "a negative sequence": (ADMISSION, {"sequence": -1}),
    "a product with a path": (ENROLMENT, {"products": {"../x": 1}}),
    "a floor as text": (ENROLMENT, {"products": {"demo": "1"}}),
    "another act": (DRIVES, {"act": "format"}),
    "an act that is a list": (DRIVES, {"act": ["retire"]}),
    "no drives": (DRIVES, {"drives": {}}),
    "too many drives": (NEW, {"drives": {f"S{n}": NOTHING_LOST for n in range(257)}}),
    "any drive": (DRIVES, {"drives": {"": VOLUME}}),
    "a drive in a list": (DRIVES, {"drives": ["S1"]}),
    "a serial number with blanks": (DRIVES, {"drives": {"S1 ": VOLUME}}),
    "a serial number with an escape": (DRIVES, {"drives": {"S\x1b[2J1": VOLUME}}),
    "a serial number that is too long": (DRIVES, {"drives": {"S" * 65: VOLUME}}),
    "a volume in capitals": (DRIVES, {"drives": {"S1": VOLUME.upper()}}),
    "any volume": (DRIVES, {"drives": {"S1": "*"}}),
    "nothing to retire": (DRIVES, {"drives": {"S1": NOTHING_LOST}}),
    "a reset of nothing": (DRIVES, {"act": "reset", "drives": {"S1": NOTHING_LOST}}),
    "an enrolment that loses something": (NEW, {"drives": {"S1": VOLUME}}),
    "no such last day": (DRIVES, {"until": "2026-02-30T00:00:00Z"}),
    "for ever": (DRIVES, {"until": "never"}),
}


@pytest.mark.parametrize(("statement", "change"), WRONG.values(), ids=WRONG)
def test_one_thing_wrong(statement: Statement, change: dict[str, Any]) -> None:
    values = json.loads(statement_bytes(statement)) | change
    data = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    with pytest.raises(StatementInvalid):
        parse_statement(data)


@pytest.mark.parametrize("statement", ALL, ids=lambda each: type(each).__name__)
def test_no_key_may_lack(statement: Statement) -> None:
    values = json.loads(statement_bytes(statement))
    for key in values:
        with pytest.raises(StatementInvalid):
            parse_statement(canonical_bytes({name: each for name, each in values.items() if name != key}))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StatementInvalid):
        parse_statement(data)
