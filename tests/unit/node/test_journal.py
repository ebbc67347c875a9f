"""A node's journal over a connection: the program run as the real subprocess it is on a node."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.errors import ApplianceError, InProgress, JournalLost, NodeUnreachable, PreflightFailed
from appliance.node import journal as module
from appliance.node.connection import LocalConnection
from appliance.node.journal import Kept, Place, commit_journal, read_journal
from appliance.trust.journal import Journal, KnownRoot, journal_bytes
from tests.unit.node.machine import after, journal_folder, read

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ())
HERE = LocalConnection(NODE)
FIRST = Journal("5" * 32, KnownRoot(1, "a" * 64))
SECOND = replace(FIRST, floor="2026-02-01T00:00:00Z")
THIRD = replace(FIRST, floor="2026-03-01T00:00:00Z")


@dataclass(frozen=True)
class Home:
    """A node's folder, as far as it is about the journal."""

    path: Path

    @property
    def place(self) -> Place:
        return Place(str(self.path), os.getuid(), "device:/there/is/none")

    @property
    def folder(self) -> Path:
        return self.path / "journal"

    def read(self) -> Kept:
        return read_journal(HERE, self.place)

    def commit(self, journal: Journal) -> Kept:
        return commit_journal(HERE, self.read(), journal, self.place)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture(scope="module")
def two_states(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("two") / "home")
    home.commit(FIRST)
    home.commit(SECOND)
    return home


@pytest.fixture
def used(two_states: Home, home: Home) -> Home:
    """Two states: the first in slot a, the second, newer one in slot b."""
    shutil.copytree(two_states.path, home.path)
    return home


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def floor(kept: Kept) -> str:
    assert kept.journal
    return kept.journal.floor


def test_a_new_node_has_no_journal_and_is_not_touched(home: Home) -> None:
    kept = home.read()
    assert (kept.journal, kept.trouble, kept.was_installed, kept.last) == (None, None, False, 0)
    assert not home.path.exists()


def test_what_is_committed_is_read_again(used: Home) -> None:
    kept = used.read()
    assert kept.journal == replace(SECOND, count=2)
    assert not kept.notes
    assert kept.was_installed


def test_the_slots_are_written_in_turn_and_only_their_owner_may_read_them(used: Home) -> None:
    first = (used.folder / "a").read_bytes()
    used.commit(THIRD)
    assert names(used.folder) == ["a", "b"]
    assert (used.folder / "a").read_bytes() != first
    line, _, rest = (used.folder / "a").read_bytes().partition(b"\n")
    assert rest == journal_bytes(replace(THIRD, count=3))
    assert line.decode() == hashlib.sha256(rest).hexdigest()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (used.folder, *used.folder.iterdir())}
    assert modes == {"journal": 0o700, "a": 0o600, "b": 0o600}
    assert stat.S_IMODE(used.path.stat().st_mode) == 0o755


def sealed(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut off": lambda data: data[:-1],
    "something added": lambda data: data + b"\n",
    "a bit that flipped": lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],
    "zeros": lambda data: bytes(len(data)),
    "capital digits": lambda data: data[:64].upper() + data[64:],
    "no JSON": lambda _: sealed(b"journal"),
    "no object": lambda _: sealed(b"[]"),
    "no count": lambda _: sealed(b"{}"),
    "a count that is none": lambda _: sealed(b'{"count":true}'),
    "a count of nothing": lambda _: sealed(b'{"count":0}'),
    "a value that is none": lambda _: sealed(b'{"count":7,"tpm":"8"}'),
    "too long": lambda _: sealed(b'{"count":7,"nonces":"' + b"0" * (2 << 20) + b'"}'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_a_damaged_slot_the_other_one_is_taken_and_it_is_said(used: Home, damage: str) -> None:
    slot = used.folder / "b"
    slot.write_bytes(DAMAGES[damage](slot.read_bytes()))
    kept = used.read()
    assert floor(kept) == FIRST.floor
    assert "slot b of the journal is damaged" in kept.notes[0]
    assert floor(used.commit(THIRD)) == THIRD.floor
    assert not used.read().notes


def test_with_both_slots_damaged_the_journal_is_lost(used: Home) -> None:
    for name in ("a", "b"):
        (used.folder / name).write_bytes(b"")
    kept = used.read()
    assert (kept.journal, kept.was_installed) == (None, True)
    assert isinstance(kept.trouble, JournalLost)
    assert "slot a: the digest" in (kept.trouble.found or "")


def test_a_journal_taken_away_from_an_installed_node_is_missed(used: Home) -> None:
    (used.path / "installed.json").write_text("{}")
    for name in ("a", "b"):
        (used.folder / name).unlink()
    assert isinstance(used.read().trouble, JournalLost)
    used.folder.rmdir()
    assert isinstance(used.read().trouble, JournalLost)


def test_what_is_no_journal_of_ours_is_not_believed(used: Home) -> None:
    """Its digest is right: it is not damaged, somebody wrote it."""
    values = json.loads((used.folder / "b").read_bytes()[65:])
    (used.folder / "b").write_bytes(sealed(json.dumps(values | {"format": 2}).encode()))
    kept = used.read()
    assert kept.journal is None
    assert isinstance(kept.trouble, JournalLost)


def _replace(path: Path, by: Callable[[Path, Path], object]) -> None:
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    by(path, away)


UNSAFE: dict[str, Callable[[Home], object]] = {
    "a slot is a link": lambda home: _replace(
        home.folder / "b", lambda path, away: path.symlink_to(away.name)
    ),
    "a slot leads nowhere": lambda home: _replace(
        home.folder / "b", lambda path, _: path.symlink_to("nowhere")
    ),
    "a slot has a second name": lambda home: (home.path / "copy").hardlink_to(home.folder / "b"),
    "a slot is a pipe": lambda home: _replace(home.folder / "b", lambda path, _: os.mkfifo(path, 0o600)),
    "a slot is a folder": lambda home: _replace(home.folder / "b", lambda path, _: path.mkdir(0o700)),
    "others may read a slot": lambda home: (home.folder / "b").chmod(0o640),
    "others may write a slot": lambda home: (home.folder / "b").chmod(0o602),
    "others may look into the folder": lambda home: home.folder.chmod(0o755),
    "others may write beside the folder": lambda home: home.path.chmod(0o775),
    "the folder is a link": lambda home: _replace(
        home.folder, lambda path, away: path.symlink_to(away.name)
    ),
    "the folder is a file": lambda home: _replace(home.folder, lambda path, _: path.write_text("")),
    "two states of one count": lambda home: (home.folder / "a").write_bytes(
        sealed(journal_bytes(replace(THIRD, count=2)))
    ),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_what_is_not_the_nodes_own_is_refused_and_not_touched(
    used: Home, snapshot: Callable[[Path], object], case: str
) -> None:
    kept = used.read()
    UNSAFE[case](used)
    before = snapshot(used.path)
    with pytest.raises(JournalLost, match="not the node's own"):
        used.read()
    with pytest.raises(JournalLost, match="not the node's own"):
        commit_journal(HERE, kept, THIRD, used.place)
    assert snapshot(used.path) == before


def test_another_user_than_the_owner_is_refused(used: Home) -> None:
    with pytest.raises(PreflightFailed, match="cannot be read") as refused:
        read_journal(HERE, replace(used.place, owner=os.getuid() + 1))
    assert f"runs as user {os.getuid()}" in (refused.value.found or "")


@pytest.mark.parametrize("what", ["a", "b", "journal"])
def test_what_belongs_to_another_user_is_refused(what: str) -> None:
    node = after(2, tpm=False)
    folder = journal_folder(node)
    (folder if what == "journal" else folder.names[what]).uid = 1000
    with pytest.raises(JournalLost) as refused:
        read(node)
    assert "belongs to user 1000" in (refused.value.found or "")


def test_what_a_killed_program_left_is_replaced(used: Home, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (used.folder / "a.new").symlink_to(victim)
    used.commit(THIRD)
    assert victim.read_text() == "mine"
    assert names(used.folder) == ["a", "b"]


def test_who_finds_the_journal_locked_is_told(used: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0)
    kept = used.read()
    fd = os.open(used.folder, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        assert floor(used.read()) == SECOND.floor
        with pytest.raises(InProgress, match="another station"):
            commit_journal(HERE, kept, THIRD, used.place)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(InProgress, match="another station"):
            used.read()
    finally:
        os.close(fd)
    assert floor(used.read()) == SECOND.floor


def test_of_many_stations_at_once_exactly_one_commits(used: Home) -> None:
    kept = used.read()
    states = [replace(FIRST, floor=f"2026-04-{day:02}T00:00:00Z") for day in range(1, 9)]

    def commit(journal: Journal) -> str | ApplianceError:
        try:
            return floor(commit_journal(HERE, kept, journal, used.place))
        except InProgress as refused:
            return refused

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(commit, states))
    (committed,) = (each for each in outcomes if isinstance(each, str))
    assert floor(used.read()) == committed
    assert used.read().last == 3


SHELL = 'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
IN_A_SMALL_ROOM = """
import os, sys
from pathlib import Path
from appliance.errors import ApplianceError
from tests.unit.node.test_journal import FIRST, SECOND, THIRD, Home
home = Home(Path(sys.argv[1]) / "home")
home.commit(FIRST)
home.commit(SECOND)
{trouble}
try:
    home.commit(THIRD)
except ApplianceError as refused:
    print(type(refused).__name__, home.read().journal.floor, sorted(os.listdir(home.folder)))
"""
FILL = """
try:
    (home.path / "filler").write_bytes(bytes(2 << 20))
except OSError:
    pass
"""
MAKE_READ_ONLY = """
import subprocess
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
"""


@pytest.mark.parametrize(
    ("trouble", "error"),
    [(FILL, "SpaceExhausted"), (MAKE_READ_ONLY, "ApplyFailed")],
    ids=["full", "read-only"],
)
def test_a_real_disk_that_takes_nothing_keeps_what_was_there(
    tmp_path: Path, trouble: str, error: str
) -> None:
    program = IN_A_SMALL_ROOM.format(trouble=trouble)
    shell = SHELL.format(options="size=1m")
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", shell, "sh"]
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, program],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"{error} {SECOND.floor} ['a', 'b']\n", done.stderr


class Broken(LocalConnection):
    """A connection that ends in another way than it should; ``argv`` is a shell command."""

    def __init__(self, node: NodeEntry, command: str) -> None:
        super().__init__(node)
        object.__setattr__(self, "command", command)

    def argv(self, command: str, *options: str) -> list[str]:
        return ["sh", "-c", self.command]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("exit 255", NodeUnreachable),
        ("cat >/dev/null; echo no such program >&2; exit 1", PreflightFailed),
        ('cat >/dev/null; echo \'{"error": "failed", "text": "odd"}\'; exit 1', PreflightFailed),
    ],
)
def test_a_node_that_cannot_tell_is_named(home: Home, command: str, error: type[ApplianceError]) -> None:
    over_ssh = replace(NODE, connection="ssh")
    with pytest.raises(error, match="here"):
        read_journal(Broken(over_ssh, command), home.place)


def test_a_node_that_says_nothing_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    with pytest.raises(NodeUnreachable, match="broke"):
        read_journal(Broken(NODE, "exec sleep 60"), home.place)
