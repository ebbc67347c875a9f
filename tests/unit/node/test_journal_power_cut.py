"""The power is cut at every step of every commit: what is found then is the old state or the new one.

The program that runs on nodes is run here over a disk and a TPM of ``power.py``, asked by the controller's
own functions.  Every disk that a cut may leave is tried.
"""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.errors import ApplyFailed, InProgress, JournalLost, JournalRolledBack, SpaceExhausted
from appliance.node.journal import Kept, commit_journal, complete_journal, read_journal
from appliance.node.remote import journal as program
from appliance.node.remote import two_slots
from appliance.trust.journal import Journal, KnownRoot
from tests.unit.node.power import Disk, Folder, Power, PowerCut, Tpm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.node.connection import Connection

FIRST = Journal("5" * 32, KnownRoot(1, "a" * 64), nonces=tuple(f"{n:064x}" for n in range(20)))
STATES = [replace(FIRST, floor=f"2026-0{month}-01T00:00:00Z") for month in range(1, 7)]


@dataclass
class Machine:
    """A node: disk and TPM on one plug.  A ``Connection``, as far as a journal needs one."""

    disk: Disk
    tpm: Tpm | None
    node = NodeEntry("gpu-01", "local", IPv4Address("10.20.0.11"), 22, ())

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        patch = pytest.MonkeyPatch()
        with patch.context() as within:
            unlocked = SimpleNamespace(flock=lambda *_: None, LOCK_NB=0, LOCK_SH=0, LOCK_EX=0)
            for module in (program, two_slots):
                within.setattr(module, "os", self.disk)
                within.setattr(module, "fcntl", unlocked)
            tpm = self.tpm or SimpleNamespace(look=lambda: None)
            within.setattr(program, "TpmCounter", lambda _: tpm)
            try:
                answer = program.Keeper(json.loads(stdin.splitlines()[-1])).answer()
            except two_slots.Refused as refused:
                answer = refused.line
            except OSError as fault:
                answer = program.fault_line(fault)
            finally:
                self.disk.open_files.clear()
        return subprocess.CompletedProcess([], 0, json.dumps(answer).encode(), b"")


def connection(machine: Machine) -> Connection:
    return machine  # type: ignore[return-value] # a journal needs no more of it


def machine(*, tpm: bool, power: Power | None = None) -> Machine:
    """One that was just switched on for the first time."""
    power = power or Power()
    lib = Folder(0o755)
    root = Folder(0o755, {"var": Folder(0o755, {"lib": lib})})
    return Machine(Disk(power, root), Tpm(power) if tpm else None)


def commit(machine: Machine, journal: Journal) -> Kept:
    return commit_journal(connection(machine), read_journal(connection(machine)), journal)


def after(done: int, *, tpm: bool) -> Machine:
    """One on which so many states were committed, and everything is on the disk."""
    made = machine(tpm=tpm)
    for state in STATES[:done]:
        commit(made, state)
    return made


def again(machine: Machine, power: Power, disk: Disk | None = None) -> Machine:
    """The same machine, with this power from now on."""
    found = copy.deepcopy(Machine(disk or machine.disk, machine.tpm))
    found.disk.power = power
    if found.tpm:
        found.tpm.power = power
    return found


def restarted(machine: Machine) -> Iterator[Machine]:
    """Every machine that may be found when the power is back."""
    for disk in machine.disk.restarted():
        yield again(machine, Power(), disk)


def said(kept: Kept) -> str | None:
    """Which state it is: its floor, which is another in each."""
    assert kept.trouble is None, kept.trouble
    return kept.journal.floor if kept.journal else None


def journal_folder(machine: Machine) -> Folder:
    folder = machine.disk.root
    for name in ("var", "lib", "appliance", "journal"):
        folder = folder.names[name]  # type: ignore[assignment] # they are folders
    return folder


def read(machine: Machine) -> Kept:
    return read_journal(connection(machine))


def steps_of(machine: Machine, journal: Journal) -> int:
    tried = again(machine, Power())
    commit(tried, journal)
    return tried.disk.power.steps


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
