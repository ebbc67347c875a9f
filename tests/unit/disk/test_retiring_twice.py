"""Retirements that another run, or another hand, came between; odd answers; what nobody has shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from appliance.disk import retiring
from appliance.disk.enrolling import enrol
from appliance.disk.escrow.files import put_file
from appliance.disk.sampling import LENGTH
from appliance.disk.secret import Secret
from appliance.errors import ApplyFailed, DriveUnsuitable, PermitRefused, Usage
from appliance.tcg.blocks import BLANK, UNREADABLE
from tests.unit.disk import test_enrolling
from tests.unit.disk.bench_life import LifeDoer, retirement
from tests.unit.disk.drives import only
from tests.unit.disk.escrows import CREATED
from tests.unit.disk.test_retiring import CutOff, doer, escrow_folder, permit, report

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["doer", "escrow_folder", "report"]


def volume_of(doer: LifeDoer) -> str:
    luks = only(doer.read())[0].luks
    assert luks is not None
    return luks.uuid


def cut_off(doer: LifeDoer, escrow: Path, report: Path, act: str, **changed: Any) -> None:
    """A retirement that stops right before an act."""
    answer = doer.answer

    def stopping(line: bytes) -> dict[str, Any]:
        if json.loads(line)["act"] == act:
            raise CutOff
        return answer(line)

    doer.answer = stopping  # type: ignore[method-assign]
    with pytest.raises(CutOff):
        retirement(doer, escrow, report, **changed)
    doer.answer = answer  # type: ignore[method-assign]


def again(doer: LifeDoer, escrow: Path) -> None:
    """Somebody resets it by its label, and enrols it anew."""
    doer.reset(only(doer.read())[0], Secret(doer.bench.profile.psid.encode()))
    enrol(doer, test_enrolling.request(doer, escrow), now=lambda: CREATED, told=lambda _line: None)
    doer.fill()


def test_a_sample_of_a_volume_before_says_nothing_of_what_a_permit_is_for(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    old = volume_of(doer)
    cut_off(doer, escrow_folder, report, "revert")
    again(doer, escrow_folder)
    new = volume_of(doer)
    acts = len(doer.acts)
    with pytest.raises(PermitRefused, match="another volume"):
        retirement(doer, escrow_folder, report, confirmed=permit(old))
    assert "open-ranges" not in doer.acts[acts:]
    done = retirement(doer, escrow_folder, report, confirmed=permit(new))
    assert done.values["media"]["volume"] == new


def test_a_drive_that_somebody_else_reset_is_said_to_be(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    cut_off(doer, escrow_folder, report, "revert")
    doer.reset(only(doer.read())[0], Secret(doer.bench.profile.psid.encode()))
    done = retirement(doer, escrow_folder, report)
    assert done.values["verification"]["not_shown"][0].startswith("who reset it, and how")


def test_a_drive_that_this_run_reset_is_not(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    done = retirement(doer, escrow_folder, report)
    assert not [one for one in done.values["verification"]["not_shown"] if "reset" in one]


def test_a_sample_of_another_drive_shows_nothing(doer: LifeDoer, escrow_folder: Path, report: Path) -> None:
    cut_off(doer, escrow_folder, report, "revert")
    path = report / "SIM1.before.json"
    path.write_bytes(path.read_bytes().replace(b'"SIM1"', b'"SIM2"'))
    with pytest.raises(Usage, match="another drive"):
        retirement(doer, escrow_folder, report)
    assert doer.owned()


def test_what_a_locked_drive_gives_out_as_zeros_is_not_verified(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    """Without the escrow's keys nobody opens its ranges, and it does not say that they are locked."""
    answer = doer.answer

    def zeros(line: bytes) -> dict[str, Any]:
        return json.loads(json.dumps(answer(line)).replace(f"{UNREADABLE}Permission denied", BLANK))  # type: ignore[no-any-return]

    doer.answer = zeros  # type: ignore[method-assign]
    psid = Secret(doer.bench.profile.psid.encode())
    found = retirement(doer, escrow_folder, report, keys=None, psid=psid).values["verification"]
    assert (found["unreadable_before"], found["result"]) == (0, "partly verified")
    assert any("no range was opened" in one for one in found["not_shown"])


def test_two_runs_at_once_do_not_trip_over_each_other(
    doer: LifeDoer, escrow_folder: Path, report: Path
) -> None:
    put_file(report, "SIM1.20260504T030201Z.certificate.json", b"{}")
    with pytest.raises(Usage, match="is there already"):
        retirement(doer, escrow_folder, report)
    (report / "SIM1.20260504T030201Z.certificate.json").unlink()
    assert retirement(doer, escrow_folder, report).sanitized, "the sample is there still"


@pytest.mark.parametrize("told", [None, [], ["x"], [1] * 60, {"a": 1}])
def test_an_odd_answer_is_an_error_and_no_proof(
    doer: LifeDoer, escrow_folder: Path, report: Path, told: Any
) -> None:
    answer = doer.answer

    def odd(line: bytes) -> dict[str, Any]:
        return {"done": {"told": told}} if json.loads(line)["act"] == "sample" else answer(line)

    doer.answer = odd  # type: ignore[method-assign]
    with pytest.raises(ApplyFailed, match="to be compared"):
        retirement(doer, escrow_folder, report)
    assert doer.owned()


def test_a_volume_of_dm_crypt_alone_is_not_said_to_be_as_it_was_made(
    escrow_folder: Path, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "choose_places", lambda _size: [at * LENGTH for at in range(60)])
    plain = LifeDoer()
    wanted = test_enrolling.request(plain, escrow_folder, layers="dm-crypt", psid=None)
    enrol(plain, wanted, now=lambda: CREATED, told=lambda _line: None)
    with pytest.raises(DriveUnsuitable, match="not-owned") as raised:
        retirement(plain, escrow_folder, report)
    assert "LUKS volume" in str(raised.value.found)
    assert "as it was made" not in str(raised.value.hint)
