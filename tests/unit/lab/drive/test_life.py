"""Ownership and its end: PINs, Activate, Revert, RevertSP, and what they do to data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.lab.drive.conftest import PIN
from tests.unit.lab.drive.host import (
    ACTIVATE,
    ADMIN_SP,
    C_PIN_SID,
    FAIL,
    INVALID_PARAMETER,
    LOCKED_OUT,
    LOCKING_SP,
    NOT_AUTHORIZED,
    OK,
    PSID,
    REVERT,
    REVERT_SP,
    SID,
    THIS_SP,
    Host,
    admin,
    atom,
    locking,
    name,
    pin_of,
    user,
)

if TYPE_CHECKING:
    from tests.unit.lab.drive.conftest import Bench, NewBench

KEEP_GLOBAL = name(0x060000, b"\x01")


def test_ownership_is_taken_with_the_pin_that_everybody_reads(bench: Bench) -> None:
    assert bench.host.msid() == bench.profile.msid
    assert bench.host.take_ownership(PIN) == OK
    assert bench.host.take_ownership("another") == NOT_AUTHORIZED
    assert bench.host.start(ADMIN_SP, SID, PIN) == OK


def test_activate_gives_the_administrator_the_owners_pin_of_that_moment(bench: Bench) -> None:
    bench.host.take_ownership(PIN)
    bench.host.activate(PIN)
    bench.host.start(ADMIN_SP, SID, PIN)
    assert bench.host.set(C_PIN_SID, c3=b"later") == OK
    bench.host.end()
    assert bench.host.start(LOCKING_SP, admin(1), PIN) == OK
    bench.host.end()
    assert bench.host.activate("later") == OK  # again: no effect
    assert bench.host.start(LOCKING_SP, admin(1), PIN) == OK


def test_activate_destroys_nothing_and_knows_no_single_user_mode(bench: Bench) -> None:
    data = bench.pattern(0, 8)
    bench.host.take_ownership(PIN)
    bench.host.start(ADMIN_SP, SID, PIN)
    wanted = name(0x060000, b"\xf0" + atom(locking(1)) + b"\xf1")
    assert bench.host.call(LOCKING_SP, ACTIVATE, wanted).status == INVALID_PARAMETER
    assert not bench.tper.active
    assert bench.host.call(LOCKING_SP, ACTIVATE).status == OK
    assert bench.media.read(0, 8) == data


@pytest.mark.parametrize("by", ["SID", "PSID"])
def test_revert_takes_all_back_and_the_data_with_it(owned: Bench, by: str) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    before = owned.pattern(0, 160)
    host.lock(PIN, 1, read=1, write=1)
    status = host.revert(SID, PIN) if by == "SID" else host.revert(PSID, owned.profile.psid)
    assert status == OK
    assert owned.tper.session is None
    assert not owned.tper.active
    after = owned.media.read(0, 160)
    assert all(after[at : at + 512] != before[at : at + 512] for at in range(0, len(before), 512))
    assert host.take_ownership("somebody new") == OK
    assert host.activate("somebody new") == OK
    host.as_admin("somebody new")
    assert host.get(locking(1), 3, 8).columns == {3: 0, 4: 0, 5: 0, 6: 0, 7: 0, 8: 0}


def test_revert_of_a_drive_whose_locking_is_off_keeps_the_data(bench: Bench) -> None:
    data = bench.pattern(0, 8)
    bench.host.take_ownership(PIN)
    assert bench.host.revert(SID, PIN) == OK
    assert bench.media.read(0, 8) == data
    assert bench.host.take_ownership(PIN) == OK


def test_revert_of_the_locking_sp_leaves_the_owner(owned: Bench) -> None:
    owned.host.start(ADMIN_SP, SID, PIN)
    assert owned.host.call(LOCKING_SP, REVERT).status == OK
    owned.host.end()
    assert not owned.tper.active
    assert owned.host.start(ADMIN_SP, SID, PIN) == OK


def test_psid_is_for_the_whole_drive_only(owned: Bench) -> None:
    owned.host.start(ADMIN_SP, PSID, owned.profile.psid)
    assert owned.host.call(LOCKING_SP, REVERT).status == NOT_AUTHORIZED
    assert owned.host.set(C_PIN_SID, c3=b"mine") == NOT_AUTHORIZED


@pytest.mark.parametrize("keep", [False, True])
def test_revert_sp_turns_locking_off_and_may_keep_the_global_range(owned: Bench, keep: bool) -> None:
    host = owned.host
    host.set_up_range(PIN, 1, 80, 80)
    before = owned.pattern(0, 160)
    host.as_admin(PIN)
    assert host.call(THIS_SP, REVERT_SP, KEEP_GLOBAL if keep else b"").status == OK
    assert owned.tper.session is None
    assert not owned.tper.active
    after = owned.media.read(0, 160)
    assert (after[: 80 * 512] == before[: 80 * 512]) is keep
    assert after[80 * 512 :] != before[80 * 512 :]
    host.tsn = host.hsn = 0
    assert host.start(ADMIN_SP, SID, PIN) == OK


def test_revert_sp_keeps_no_global_range_that_is_locked(owned: Bench) -> None:
    host = owned.host.as_admin(PIN)
    host.set(locking(0), c5=1, c6=1, c7=1, c8=1)
    assert host.call(THIS_SP, REVERT_SP, KEEP_GLOBAL).status == FAIL
    assert owned.tper.active
    host.set(locking(0), c7=0)
    assert host.call(THIS_SP, REVERT_SP, KEEP_GLOBAL).status == OK


def test_a_drive_that_somebody_owns_gives_way_to_its_label_only(new_bench: NewBench) -> None:
    bench = new_bench(owner_pin="nobody knows")
    assert bench.host.take_ownership(PIN) == NOT_AUTHORIZED
    assert bench.host.revert(PSID, "wrong") == NOT_AUTHORIZED
    assert bench.host.revert(PSID, bench.profile.psid) == OK
    assert bench.host.take_ownership(PIN) == OK


def test_wrong_pins_are_counted_and_lock_out_until_power_fails(owned: Bench) -> None:
    host = owned.host
    for _ in range(5):
        assert host.start(LOCKING_SP, admin(1), "wrong") == NOT_AUTHORIZED
    assert host.start(LOCKING_SP, admin(1), PIN) == LOCKED_OUT
    assert host.start(ADMIN_SP, SID, PIN) == OK  # each for itself
    host.end()
    owned.lose_power()
    assert owned.host.start(LOCKING_SP, admin(1), PIN) == OK


def test_a_right_pin_forgives_the_wrong_ones(owned: Bench) -> None:
    host = owned.host
    for _ in range(2):
        for _ in range(4):
            assert host.start(LOCKING_SP, admin(1), "wrong") == NOT_AUTHORIZED
        host.as_admin(PIN)
        assert host.get(pin_of(admin(1)), 6).columns == {6: 0}
        host.end()


def test_a_drive_may_count_forever(new_bench: NewBench) -> None:
    bench = new_bench(try_limit=0).own()
    for _ in range(20):
        assert bench.host.start(LOCKING_SP, admin(1), "wrong") == NOT_AUTHORIZED
    assert bench.host.start(LOCKING_SP, admin(1), PIN) == OK


def test_a_disabled_user_does_not_even_count(owned: Bench) -> None:
    for _ in range(9):
        assert owned.host.start(LOCKING_SP, user(1), "wrong") == NOT_AUTHORIZED
    host = owned.host.as_admin(PIN)
    assert host.get(pin_of(user(1)), 6).columns == {6: 0}
    host.set(user(1), c5=1)
    host.end()
    assert host.start(LOCKING_SP, user(1), "") == OK


@pytest.mark.parametrize("ends", ["power", "reset", "revert", "plain reset"])
def test_sid_is_blocked_until(bench: Bench, ends: str) -> None:
    bench.security.send(2, 5, bytes([ends == "reset"]).ljust(512, b"\0"))
    assert bench.host.take_ownership(PIN) == NOT_AUTHORIZED
    if ends == "power":
        bench.lose_power()
    elif ends == "revert":
        assert bench.host.revert(PSID, bench.profile.psid) == OK
    else:
        bench.tper.hardware_reset()
    assert Host(bench.security).take_ownership(PIN) == (NOT_AUTHORIZED if ends == "plain reset" else OK)
