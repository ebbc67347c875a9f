"""Enrolling by a signed permit: what it takes, and what it is good for; through the command as well."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk.confirmation import Confirmation
from appliance.disk.escrow.keeping import records_of
from appliance.disk.secret import Secret
from appliance.errors import ApplianceError, PermitRefused, RootInvalid, ThresholdNotMet, Usage
from appliance.node.journal import read_journal
from appliance.trust.founding import compose
from appliance.trust.root import root_bytes
from appliance.trust.statements import NOTHING_LOST, Act, DrivePermit, statement_bytes, statement_name
from tests.unit.disk import test_enroll_command as command
from tests.unit.disk.bench import BenchDoer
from tests.unit.disk.drives import only
from tests.unit.disk.test_enroll_command import machine
from tests.unit.disk.test_enrolling import CutOff, owner_of, pin_in, run
from tests.unit.node.test_drive_permit import FUTURE, PAST
from tests.unit.node.test_journal import HERE
from tests.unit.trust.people import Person

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.disk.test_enroll_command import Machine

__all__ = ["machine"]

ALICE, BOB = Person("alice"), Person("bob")
ROOT = compose([*ALICE.enrolled("root", "release", "site"), *BOB.enrolled("root", "release", "site")])


def permit(act: Act = "enroll", lost: str = NOTHING_LOST, serial: str = "SIM1", **more: Any) -> DrivePermit:
    return replace(DrivePermit("gpu-01", act, {serial: lost}, FUTURE, "1" * 64, "rack 4"), **more)


def by(given: DrivePermit) -> Confirmation:
    return Confirmation(permit=given)


def test_a_permit_is_as_good_as_a_serial_number_that_was_typed(tmp_path: Path) -> None:
    doer = BenchDoer()
    assert run(doer, tmp_path, confirmed=by(permit())).generation == 1
    assert doer.owner_is(pin_in(tmp_path))


@pytest.mark.parametrize(
    "given", [permit(serial="SIM2"), permit("retire", "1" * 8 + "-1111" * 3 + "-" + "1" * 12)]
)
def test_a_permit_for_something_else_touches_nothing(tmp_path: Path, given: DrivePermit) -> None:
    doer = BenchDoer()
    with pytest.raises(PermitRefused):
        run(doer, tmp_path, confirmed=by(given))
    assert (doer.attempts, list(tmp_path.iterdir())) == ([], [])


def cut_off(doer: BenchDoer, folder: Path) -> str:
    """Leave an enrolment half-way; the UUID of what it would have become."""

    def stop() -> None:
        raise CutOff

    doer.before_header = stop
    with pytest.raises(CutOff):
        run(doer, folder, confirmed=by(permit()))
    doer.before_header = lambda: None
    return records_of(folder, "SIM1", owned=True)[-1].uuid


def test_a_reset_takes_a_permit_for_what_is_lost(tmp_path: Path) -> None:
    doer = BenchDoer()
    lost = cut_off(doer, tmp_path)
    for wrong in (permit(), permit("reset", "6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b")):
        with pytest.raises(PermitRefused):
            run(doer, tmp_path, confirmed=by(wrong), reset=True)
        assert doer.owner_is(pin_in(tmp_path)), "as it was"
    assert run(doer, tmp_path, confirmed=by(permit("reset", lost)), reset=True).generation == 2


def test_a_permit_to_reset_is_not_good_for_the_next_time(tmp_path: Path) -> None:
    doer = BenchDoer()
    first = permit("reset", cut_off(doer, tmp_path))
    by_hand = Secret(doer.bench.profile.psid.encode())
    doer.reset(only(doer.read())[0], by_hand)  # and then it is cut off once more
    assert first.drives["SIM1"] != cut_off(doer, tmp_path)
    with pytest.raises(PermitRefused, match="another volume"):
        run(doer, tmp_path, confirmed=by(first), reset=True)
    assert owner_of(doer) == "somebody"


# --- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def station(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a root; the node of ``disk enroll`` keeps its journal in a folder that is empty."""
    assert machine.commands == []
    (tmp_path / "node").mkdir()
    fields = {"home": str(tmp_path / "node"), "owner": os.getuid(), "tpm": "device:/there/is/none"}

    def journal(_connection: object, place: Any) -> Any:
        return read_journal(HERE, replace(place, **fields))

    monkeypatch.setattr("appliance.node.drive_permit.read_journal", journal)
    (tmp_path / "root.json").write_bytes(root_bytes(ROOT))
    return tmp_path


def signed(folder: Path, given: DrivePermit, *people: Person) -> str:
    name, data = statement_name(given), statement_bytes(given)
    (folder / name).write_bytes(data)
    for one in people:
        beside = f"{name.removesuffix('.json')}.{one.name}.{one.key.keyid[:8]}.sig"
        (folder / beside).write_bytes(one.sign(data, "site"))
    return name


def test_the_command_takes_a_permit(machine: Machine, station: Path) -> None:
    done = command.run("--permit", signed(station, permit(), ALICE), "--json", confirm="")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["permit"] == {
        "nonce": "1" * 64,
        "reason": "rack 4",
        "signed_by": ["alice"],
    }
    assert f"by permit {'1' * 16} of alice: rack 4" in done.stderr
    assert machine.doer.owner_is(pin_in(station / "escrow"))


@pytest.mark.parametrize(
    "case",
    [
        (permit(), [], [], ThresholdNotMet),
        (permit(until=PAST), [ALICE], [], PermitRefused),
        (permit(node="gpu-02"), [ALICE], [], PermitRefused),
        (permit(serial="SIM2"), [ALICE], [], PermitRefused),
        (permit(), [ALICE], ["--fingerprint", "a" * 64], RootInvalid),
        (permit(), [ALICE], ["--trust", "none.json"], Usage),
        (permit(), [ALICE], ["--confirm", "SIM1"], Usage),
    ],
)
def test_a_permit_that_does_not_count_touches_nothing(
    machine: Machine,
    station: Path,
    case: tuple[DrivePermit, list[Person], list[str], type[ApplianceError]],
) -> None:
    """And the PSID is not asked for."""
    given, people, more, kind = case
    error = command.refused("--permit", signed(station, given, *people), *more, confirm="", psid="")
    assert type(error) is kind
    if kind is not Usage:
        assert error.exit_code == 4
    assert (machine.commands, list((station / "escrow").iterdir())) == ([], [])


@pytest.mark.usefixtures("station")
def test_a_root_without_a_permit(machine: Machine) -> None:
    assert "nothing to judge" in command.refused("--trust", "root.json").message
    assert machine.commands == []
