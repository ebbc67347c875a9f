"""The journal's counter in a real TPM 2.0, of software (swtpm), asked through the real tpm2-tools."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.errors import InProgress, JournalLost, JournalRolledBack
from appliance.node.connection import LocalConnection
from appliance.node.journal import Place, commit_journal, complete_journal, read_journal
from appliance.node.remote.tpm_counter import COUNTER, KEPT, TpmCounter
from appliance.node.remote.two_slots import Refused
from appliance.trust.journal import Journal, KnownRoot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HERE = LocalConnection(NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ()))
FIRST = Journal("5" * 32, KnownRoot(1, "a" * 64))
SECOND = replace(FIRST, floor="2026-02-01T00:00:00Z")
THIRD = replace(FIRST, floor="2026-03-01T00:00:00Z")


class Chip:
    """A TPM in a process of its own; what it keeps lies in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "socket"
        self.tcti = f"swtpm:path={self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}"]
        command += ["--server", f"type=unixio,path={self.socket}", "--flags", "startup-clear"]
        command += ["--ctrl", f"type=unixio,path={self.socket}.ctrl"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not self.socket.exists():
            assert self.process.poll() is None, "swtpm did not start"
            assert time.monotonic() < until, "swtpm did not start"
            time.sleep(0.01)

    def off(self) -> None:
        """As if the plug were pulled."""
        if self.process:
            self.process.kill()
            self.process.wait()
        for name in (self.socket, self.folder / "socket.ctrl"):
            name.unlink(missing_ok=True)

    def ask(self, tool: str, *arguments: str) -> bytes:
        command = [tool, "-T", self.tcti, *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    chip = Chip(tmp_path / "tpm")
    chip.folder.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(chip.off)
        chip.on()
        yield chip


@pytest.fixture
def place(chip: Chip, tmp_path: Path) -> Place:
    return Place(str(tmp_path / "home"), os.getuid(), chip.tcti)


def commit(place: Place, journal: Journal) -> int | None:
    """Commit, and the journal's value of the counter."""
    kept = commit_journal(HERE, read_journal(HERE, place), journal, place)
    assert kept.trouble is None
    assert not kept.unfinished
    assert kept.counter
    assert kept.journal
    assert kept.journal.tpm == kept.counter.value
    return kept.journal.tpm


def test_the_counter_goes_up_with_each_commit_and_survives_the_plug(chip: Chip, place: Place) -> None:
    first, second = commit(place, FIRST), commit(place, SECOND)
    assert first
    assert second == first + 1
    chip.off()
    chip.on()
    kept = read_journal(HERE, place)
    assert kept.journal
    assert (kept.journal.tpm, kept.journal.floor, kept.trouble) == (second, SECOND.floor, None)
    assert commit(place, THIRD) == second + 1


def test_reading_changes_nothing(chip: Chip, place: Place) -> None:
    assert read_journal(HERE, place).counter
    assert not os.path.lexists(place.home)
    assert b"0x" not in chip.ask("tpm2_getcap", "handles-nv-index")


def test_an_old_disk_put_back_is_refused(place: Place, tmp_path: Path) -> None:
    commit(place, FIRST)
    shutil.copytree(place.home, tmp_path / "old", symlinks=True)
    commit(place, SECOND)
    shutil.rmtree(place.home)
    shutil.copytree(tmp_path / "old", place.home)
    kept = read_journal(HERE, place)
    assert isinstance(kept.trouble, JournalRolledBack)
    assert kept.was_installed


def test_a_journal_taken_away_is_missed_by_the_tpm_alone(place: Place) -> None:
    commit(place, FIRST)
    shutil.rmtree(place.home)
    kept = read_journal(HERE, place)
    assert kept.journal is None
    assert isinstance(kept.trouble, JournalLost)


def test_a_journal_that_begins_anew_is_not_the_old_one(place: Place, tmp_path: Path) -> None:
    """After an enrolment; neither is the first of the two believed any more."""
    commit(place, FIRST)
    shutil.copytree(place.home, tmp_path / "old")
    shutil.rmtree(place.home)
    commit(place, replace(SECOND, identity="6" * 32))
    shutil.rmtree(place.home)
    shutil.copytree(tmp_path / "old", place.home)
    assert isinstance(read_journal(HERE, place).trouble, JournalRolledBack)


def test_a_cut_before_the_counter_went_up_is_completed(chip: Chip, place: Place) -> None:
    """The disk as a cut leaves it, and the TPM as it was before: from a copy of what it keeps."""
    commit(place, FIRST)
    chip.off()
    shutil.copytree(chip.folder, chip.folder.with_name("before"))
    chip.on()
    value = commit(place, SECOND)
    chip.off()
    shutil.rmtree(chip.folder)
    chip.folder.with_name("before").rename(chip.folder)
    chip.on()
    kept = read_journal(HERE, place)
    assert (kept.trouble, kept.unfinished) == (None, True)
    done = complete_journal(HERE, kept, place)
    assert not done.unfinished
    assert done.counter
    assert done.counter.value == value
    assert commit(place, THIRD) == (value or 0) + 1


def test_a_cleared_tpm_is_noticed_and_counts_on_after_an_enrolment(chip: Chip, place: Place) -> None:
    commit(place, FIRST)
    chip.ask("tpm2_clear")
    assert isinstance(read_journal(HERE, place).trouble, JournalRolledBack)
    commit(place, replace(FIRST, identity="6" * 32))


def test_a_counter_that_is_removed_and_defined_again_does_not_go_back(chip: Chip, place: Place) -> None:
    commit(place, FIRST)
    value = commit(place, SECOND)
    chip.ask("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    chip.ask("tpm2_nvundefine", "-C", "o", hex(KEPT))
    assert TpmCounter(chip.tcti).adopt() > (value or 0)
    assert isinstance(read_journal(HERE, place).trouble, JournalRolledBack)


def test_an_owner_with_a_password_does_not_hinder_what_is_defined(chip: Chip, place: Place) -> None:
    value = commit(place, FIRST)
    chip.ask("tpm2_changeauth", "-c", "owner", "secret")
    assert commit(place, SECOND) == (value or 0) + 1


def test_a_tpm_that_lets_nothing_be_defined_is_said_and_done_without(chip: Chip, place: Place) -> None:
    chip.ask("tpm2_changeauth", "-c", "owner", "secret")
    kept = commit_journal(HERE, read_journal(HERE, place), FIRST, place)
    assert "does not guard the journal: tpm2_nvdefine" in kept.notes[0]
    assert kept.journal
    assert kept.journal.tpm is None
    chip.ask("tpm2_changeauth", "-c", "owner", "-p", "secret")
    assert commit(place, SECOND)


def test_a_counter_that_is_relied_on_and_does_not_go_up_is_an_error(chip: Chip, place: Place) -> None:
    """Nothing is written either: a state without its value would not be believed."""
    commit(place, FIRST)
    chip.ask("tpm2_nvundefine", "-C", "o", hex(COUNTER))
    kept = replace(read_journal(HERE, place), trouble=None)
    with pytest.raises(InProgress):
        commit_journal(HERE, kept, SECOND, place)
    assert read_journal(HERE, place).last == 1


def test_a_tpm_that_does_not_answer_is_said(chip: Chip, place: Place) -> None:
    chip.off()
    assert "trouble" in (TpmCounter(chip.tcti).look() or {})
    with pytest.raises(Refused):
        TpmCounter(chip.tcti).increment()
    kept = read_journal(HERE, place)
    assert "does not guard the journal" in kept.notes[0]


def test_without_the_tools_it_is_said_what_is_missing(
    chip: Chip, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "tpm2-tools" in (TpmCounter(chip.tcti).look() or {})["trouble"]


def test_a_node_has_a_tpm_if_the_kernel_shows_one(tmp_path: Path) -> None:
    assert TpmCounter(f"device:{tmp_path}/tpmrm0").look() is None
