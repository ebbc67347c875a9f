"""The power is cut at every step of every commit: what is found then is the old state or the new one.

The program that runs on nodes is run here over a disk and a TPM of ``power.py``, asked by the controller's
own functions.  Every disk that a cut may leave is tried.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.errors import ApplyFailed, InProgress, JournalLost, JournalRolledBack, SpaceExhausted
from appliance.node.journal import commit_journal, complete_journal
from tests.unit.node.machine import (
    STATES,
    Machine,
    after,
    again,
    commit,
    connection,
    journal_folder,
    machine,
    read,
    restarted,
    said,
    steps_of,
)
from tests.unit.node.power import Power, PowerCut, Tpm

if TYPE_CHECKING:
    from appliance.node.journal import Kept

CASES = [(done, tpm) for done in range(4) for tpm in (False, True)]
BY_NAME = [f"{done} before{', TPM' if tpm else ''}" for done, tpm in CASES]


@pytest.mark.parametrize(("done", "tpm"), CASES, ids=BY_NAME)
@pytest.mark.parametrize("half", [False, True], ids=["before", "within"])
def test_a_cut_at_any_step_leaves_the_old_state_or_the_new(done: int, tpm: bool, half: bool) -> None:
    before = after(done, tpm=tpm)
    old, new = said(read(before)), STATES[done].floor
    steps = steps_of(before, STATES[done])
    found = set()
    for step in range(1, steps + 1):
        tried = again(before, Power(step, half))
        with pytest.raises(PowerCut):
            commit(tried, STATES[done])
        for left in restarted(tried):
            kept = read(left)
            assert said(kept) in {old, new}, f"cut at step {step}"
            found.add(said(kept))
            goes_on(left, kept)
    assert found == {old, new}


@pytest.mark.parametrize(("done", "tpm"), CASES, ids=BY_NAME)
def test_what_was_committed_is_there_after_any_cut(done: int, tpm: bool) -> None:
    tried = after(done + 1, tpm=tpm)
    for left in restarted(tried):
        assert said(read(left)) == STATES[done].floor
        assert not read(left).unfinished


def goes_on(machine: Machine, kept: Kept) -> None:
    """The next commit goes through, and is safe."""
    commit(machine, STATES[-1])
    for left in restarted(machine):
        assert said(read(left)) == STATES[-1].floor
        assert read(left).last == kept.last + 1


@pytest.mark.parametrize("tpm", [False, True], ids=["no TPM", "TPM"])
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_program_killed_at_any_step_and_then_the_power_cut_at_any(done: int, tpm: bool) -> None:
    """Killed only, what was not synced is still there to be read, and to be lost later."""
    before = after(done, tpm=tpm)
    old, new, third = said(read(before)), STATES[done].floor, STATES[done + 1].floor
    for step in range(1, steps_of(before, STATES[done]) + 1):
        killed = again(before, Power(step))
        with pytest.raises(PowerCut):
            commit(killed, STATES[done])
        killed = again(killed, Power())
        seen = said(read(killed))
        assert seen in {old, new}
        for later in range(1, steps_of(killed, STATES[done + 1]) + 1):
            tried = again(killed, Power(later))
            with pytest.raises(PowerCut):
                commit(tried, STATES[done + 1])
            for left in restarted(tried):
                assert said(read(left)) in {old, new, third}, f"killed at {step}, cut at {later}"


def test_a_cut_between_disk_and_tpm_is_completed() -> None:
    before = after(2, tpm=True)
    steps = steps_of(before, STATES[2])
    tried = again(before, Power(steps))  # the last step raises the counter
    with pytest.raises(PowerCut):
        commit(tried, STATES[2])
    left = again(tried, Power())
    kept = read(left)
    assert (said(kept), kept.unfinished) == (STATES[2].floor, True)
    assert left.tpm
    assert before.tpm
    assert left.tpm.counter == before.tpm.counter
    done = complete_journal(connection(left), kept)
    assert not done.unfinished
    assert left.tpm.counter == (before.tpm.counter or 0) + 1
    assert complete_journal(connection(left), done) is done


def test_a_cut_before_the_tpm_is_relied_on_is_completed() -> None:
    before = Machine(after(2, tpm=False).disk, Tpm(Power()))
    tried = again(before, Power(steps_of(before, STATES[2])))  # the last step is to rely on it
    with pytest.raises(PowerCut):
        commit(tried, STATES[2])
    left = again(tried, Power())
    assert left.tpm
    assert not left.tpm.kept
    kept = read(left)
    assert (said(kept), kept.unfinished) == (STATES[2].floor, True)
    assert not complete_journal(connection(left), kept).unfinished
    assert left.tpm.kept


def test_the_next_commit_completes_the_one_that_was_cut_off() -> None:
    """Otherwise two states would have the same value, and the older could be put back."""
    before = after(2, tpm=True)
    tried = again(before, Power(steps_of(before, STATES[2])))
    with pytest.raises(PowerCut):
        commit(tried, STATES[2])
    left = again(tried, Power())
    commit(left, STATES[3])
    del journal_folder(left).names["b"]
    assert isinstance(read(left).trouble, JournalRolledBack)


def test_an_old_disk_put_back_is_noticed_by_the_tpm() -> None:
    """Every disk that the node ever had is tried beside the TPM it has now."""
    now = after(3, tpm=True)
    for done in range(3):
        old = Machine(after(done, tpm=True).disk, now.tpm)
        trouble = read(old).trouble
        assert isinstance(trouble, JournalRolledBack if done else JournalLost)


def test_the_newer_slot_taken_away_is_noticed_by_the_tpm() -> None:
    now = after(3, tpm=True)
    del journal_folder(now).names["a"]
    assert isinstance(read(now).trouble, JournalRolledBack)


def test_a_journal_from_before_the_tpm_was_used_is_noticed() -> None:
    now = after(2, tpm=True)
    old = Machine(after(2, tpm=False).disk, now.tpm)
    assert isinstance(read(old).trouble, JournalRolledBack)


def test_a_node_whose_tpm_comes_later_uses_it_from_the_next_commit_on() -> None:
    before = after(2, tpm=False)
    with_tpm = Machine(before.disk, Tpm(Power()))
    assert said(read(with_tpm)) == STATES[1].floor
    kept = commit(with_tpm, STATES[2])
    assert kept.journal
    assert kept.journal.tpm == 41
    assert not kept.unfinished
    assert isinstance(read(Machine(after(2, tpm=False).disk, with_tpm.tpm)).trouble, JournalRolledBack)


def test_without_its_tpm_a_journal_is_not_believed() -> None:
    assert isinstance(read(Machine(after(2, tpm=True).disk, None)).trouble, JournalRolledBack)
    cleared = Machine(after(2, tpm=True).disk, Tpm(Power()))
    assert isinstance(read(cleared).trouble, JournalRolledBack)


def test_a_tpm_that_cannot_be_asked_is_said_and_not_used() -> None:
    odd = machine(tpm=True)
    assert odd.tpm
    odd.tpm.trouble = "no tpm2-tools"
    kept = commit(odd, STATES[0])
    assert kept.journal
    assert kept.journal.tpm is None
    assert "no tpm2-tools" in " ".join(kept.notes)


@pytest.mark.parametrize(
    ("call", "fault", "error"),
    [
        ("create", 28, SpaceExhausted),
        ("write", 28, SpaceExhausted),
        ("write", 122, SpaceExhausted),
        ("fsync", 28, SpaceExhausted),
        ("rename", 28, SpaceExhausted),
        ("mkdir", 28, SpaceExhausted),
        ("create", 30, ApplyFailed),
        ("mkdir", 30, ApplyFailed),
        ("fsync", 5, ApplyFailed),
        ("fsync-folder", 5, ApplyFailed),
        ("rename", 5, ApplyFailed),
    ],
)
@pytest.mark.parametrize("done", [0, 1, 2])
def test_a_full_or_failing_disk_is_named_and_loses_nothing(
    done: int, call: str, fault: int, error: type[Exception]
) -> None:
    if call == "mkdir":
        done = 0  # later the folder is there
    before = after(done, tpm=True)
    old = said(read(before))
    before.disk.faults[call] = fault
    with pytest.raises(error):
        commit(before, STATES[done])
    before.disk.faults.clear()
    if call not in {"mkdir", "fsync-folder"}:
        assert not [name for name in journal_folder(before).names if name.endswith(".new")]
    for left in restarted(before):
        kept = read(left)
        assert said(kept) in {old, STATES[done].floor}
        goes_on(left, kept)


def test_of_two_stations_one_is_refused_and_changes_nothing() -> None:
    shared = after(1, tpm=True)
    seen = read(shared)
    commit_journal(connection(shared), seen, STATES[1])
    for stale in (seen, replace(read(shared), digest=seen.digest), replace(read(shared), last=4)):
        with pytest.raises(InProgress, match="not what it was"):
            commit_journal(connection(shared), stale, STATES[2])
    assert said(read(shared)) == STATES[1].floor
