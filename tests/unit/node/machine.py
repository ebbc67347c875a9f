"""A node in memory, on which the real program keeps a journal for the controller's real functions."""

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
from appliance.node.journal import Kept, commit_journal, read_journal
from appliance.node.remote import journal as program
from appliance.node.remote import two_slots
from appliance.trust.journal import Journal, KnownRoot
from tests.unit.node.power import Disk, Folder, Power, Tpm

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
