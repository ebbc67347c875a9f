"""A permit for drives: start from a good one, change one thing, expect its one refusal."""

from __future__ import annotations

from typing import get_args

import pytest

from appliance.errors import PermitRefused
from appliance.trust.drive_permits import require_permitted, require_valid
from appliance.trust.statements import NOTHING_LOST, Act, DrivePermit

A, B = "6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b", "7e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b"
UNTIL = "2026-03-01T12:00:00Z"


def permit(act: Act) -> DrivePermit:
    drives = {"S1": NOTHING_LOST, "S2": NOTHING_LOST} if act == "enroll" else {"S1": A, "S2": B}
    return DrivePermit("gpu-01", act, drives, UNTIL, "1" * 64, "ticket 4711")


def test_it_is_good_to_its_last_second_on_its_node() -> None:
    require_valid(permit("retire"), "gpu-01", {"here": UNTIL, "there": "1970-01-01T00:00:00Z"})


@pytest.mark.parametrize("late", ["here", "there", "journal"])
def test_the_latest_that_anybody_knows_ends_it(late: str) -> None:
    times = dict.fromkeys(("here", "there", "journal"), UNTIL) | {late: "2026-03-01T12:00:01Z"}
    with pytest.raises(PermitRefused, match="past its date") as raised:
        require_valid(permit("enroll"), "gpu-01", times)
    assert raised.value.found == f"good until {UNTIL}; {late} says 2026-03-01T12:00:01Z"


def test_another_node() -> None:
    with pytest.raises(PermitRefused, match="another node"):
        require_valid(permit("enroll"), "gpu-02", {"here": UNTIL})


@pytest.mark.parametrize("act", get_args(Act))
@pytest.mark.parametrize("given", get_args(Act))
def test_an_act_takes_a_permit_for_it(act: Act, given: Act) -> None:
    """A reset goes on to enrolment; nothing else takes another's."""
    volume = None if act == "enroll" else A
    if act == given or (act, given) == ("enroll", "reset"):
        require_permitted(permit(given), act, "S1", volume)
        return
    with pytest.raises(PermitRefused, match="another act"):
        require_permitted(permit(given), act, "S1", volume)


@pytest.mark.parametrize("act", get_args(Act))
def test_a_drive_that_it_does_not_name(act: Act) -> None:
    for serial in ("S3", "s1", "S", ""):
        with pytest.raises(PermitRefused, match="does not name this drive"):
            require_permitted(permit(act), act, serial)


@pytest.mark.parametrize("act", ["reset", "retire"])
@pytest.mark.parametrize("volume", [B, "", NOTHING_LOST, None])
def test_another_volume_of_a_drive_that_it_names(act: Act, volume: str | None) -> None:
    """So it is good once: the next volume has another UUID."""
    with pytest.raises(PermitRefused, match="another volume") as raised:
        require_permitted(permit(act), act, "S1", volume)
    assert raised.value.found == A
