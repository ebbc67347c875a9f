"""Side by side: our bundles, and what people use today to carry files and know that they arrived.

Each tool brings the same payload onto a medium (a folder on this disk) and checks it there; both are
measured once, after a small rehearsal, in the order of the table.  What a tool notices is found out by
doing it to a medium of its own: a bit is flipped, a file taken away, added, cut short; and somebody
without the key makes the whole medium anew.  The tables are printed, and written to ``out/compare.md``
for docs/benchmarks.md; the page's verdicts must be those found here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.bench.peers import KEYS, PEERS, Peer
from tests.bench.station import make_station, write_definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.bench.conftest import Cost

pytestmark = pytest.mark.bench

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "benchmarks.md"
OUT = CHECKOUT / "out" / "compare.md"
PEER_PROGRAMS = CHECKOUT / ".venv" / "peers" / "bin"

#: Bytes of the long file and number of short ones, 32 KiB each: to measure, and to damage.
MEASURED = (2 << 30, 1_500)
DAMAGED = (24 << 20, 40)
SHORT = 32 << 10


@dataclass(frozen=True)
class Bench:
    """A payload, keys, and a place to work in."""

    folder: Path
    environment: Mapping[str, str]

    def medium(self, name: str) -> Path:
        """A new empty folder that stands for a medium."""
        folder = self.folder / "media" / name
        folder.mkdir(parents=True)
        return folder

    def shell(self, commands: str, medium: Path, *, key: str = "own") -> list[str]:
        """The command line that runs a peer's commands."""
        values = {**self.environment, "M": str(medium), "KEY": key}
        return ["env", *(f"{name}={value}" for name, value in values.items()), "sh", "-euc", commands]

    def accepts(self, peer: Peer, medium: Path) -> bool:
        """Whether the tool finds nothing wrong with the medium."""
        return _run(self.shell(peer.verify, medium)).returncode == 0

    def create(self, peer: Peer, medium: Path, *, key: str = "own") -> None:
        done = _run(self.shell(peer.create, medium, key=key))
        assert done.returncode == 0, f"{peer.name}: {done.stdout}{done.stderr}"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )


def new_bench(folder: Path, program: str, long: int, short: int) -> Bench:
    """A payload of one long file and many short ones, twice: in a store, and as a plain folder."""
    station = make_station(folder, long=long, short=short, short_size=SHORT)
    for name, parity in {"plain": 0, "parity": 5}.items():
        (folder / name).mkdir()
        write_definition(folder / name, station.lock.model_copy(update={"parity": parity}))
    for artefact in station.lock.components["data"].artefacts:
        path = folder / "payload" / artefact.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.hardlink_to(station.objects / artefact.sha256[:2] / artefact.sha256)
    (folder / "keys").mkdir()
    environment = {
        "P": str(folder / "payload"),
        "K": str(folder / "keys"),
        "W": str(folder),
        "APPLIANCE": program,
        "PEERS": str(PEER_PROGRAMS),
        "HOME": str(folder),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    bench = Bench(folder, environment)
    done = _run(bench.shell(KEYS, folder))
    assert done.returncode == 0, done.stderr
    return bench


@pytest.fixture(scope="module")
def small(program: str, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return new_bench(tmp_path_factory.mktemp("small"), program, *DAMAGED)


@pytest.fixture(scope="module")
def large(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("large")
    yield new_bench(folder, program, *MEASURED)
    shutil.rmtree(folder)  # gigabytes, and pytest keeps folders


# --- what is noticed ---------------------------------------------------------------------------


def _files(medium: Path) -> list[Path]:
    """The files of a medium, the largest first."""
    return sorted((path for path in medium.rglob("*") if path.is_file()), key=lambda p: -p.stat().st_size)


def flip_a_bit(medium: Path) -> bool:
    largest = _files(medium)[0]
    with largest.open("r+b") as file:
        file.seek(largest.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    return True


def take_a_file(medium: Path) -> bool:
    """Take the largest file, which holds payload whatever the format; not where it is the only one."""
    files = _files(medium)
    if len(files) == 1:
        return False
    files[0].unlink()
    return True


def add_a_file(medium: Path) -> bool:
    """Add a file beside the largest, unless a file is the whole format."""
    files = _files(medium)
    if len(files) == 1:
        return False
    files[0].with_name("extra.bin").write_bytes(b"extra")
    return True


def cut_short(medium: Path) -> bool:
    largest = _files(medium)[0]
    os.truncate(largest, largest.stat().st_size - 1000)
    return True


DAMAGES: Mapping[str, Callable[[Path], bool]] = {
    "bit flipped": flip_a_bit,
    "file missing": take_a_file,
    "file added": add_a_file,
    "cut short": cut_short,
}
COLUMNS = (*DAMAGES, "made by a stranger", "bit mended")


def judge(peer: Peer, bench: Bench) -> dict[str, str]:
    """What the tool notices: yes, **no**, or n/a where there is nothing to do it to."""
    medium = bench.medium(f"{PEERS.index(peer)}")
    bench.create(peer, medium)
    assert bench.accepts(peer, medium), f"{peer.name} refuses what it made"
    found = {}
    for name, damage in DAMAGES.items():
        pristine = medium.with_name(medium.name + "-pristine")
        shutil.copytree(medium, pristine, symlinks=True)
        found[name] = ("**no**" if bench.accepts(peer, medium) else "yes") if damage(medium) else "n/a"
        shutil.rmtree(medium)
        pristine.rename(medium)
    found["bit mended"] = _mends(peer, bench, medium) if peer.repair else "n/a"
    forged = bench.medium(f"{PEERS.index(peer)}-forged")
    bench.create(peer, forged, key="stranger")
    # The medium arrives where the true one was expected.
    shutil.rmtree(medium)
    forged.rename(medium)
    found["made by a stranger"] = "**no**" if bench.accepts(peer, medium) else "yes"
    return found


def _mends(peer: Peer, bench: Bench, medium: Path) -> str:
    """Whether the tool repairs one flipped bit: it says so, and then finds nothing wrong."""
    flip_a_bit(medium)
    done = _run(bench.shell(peer.repair, medium))
    return "yes" if done.returncode == 0 and bench.accepts(peer, medium) else "**no**"


@pytest.fixture(scope="module")
def verdicts(small: Bench) -> dict[str, dict[str, str]]:
    return {peer.name: judge(peer, small) for peer in PEERS}


def test_ours_notices_everything(verdicts: dict[str, dict[str, str]]) -> None:
    noticed = dict.fromkeys((*DAMAGES, "made by a stranger"), "yes")
    assert verdicts["appliance"] == {**noticed, "bit mended": "n/a"}
    assert verdicts["appliance, 5 % parity"] == {**noticed, "bit mended": "yes"}


def test_the_page_says_what_is_found(verdicts: dict[str, dict[str, str]]) -> None:
    """Row by row: a peer that learns to notice more, or less, changes the page."""
    text = verdict_table(verdicts)
    print(f"\n{text}")
    assert text in PAGE.read_text(encoding="utf-8")


def verdict_table(verdicts: dict[str, dict[str, str]]) -> str:
    rows = [[name, *(found[column] for column in COLUMNS)] for name, found in verdicts.items()]
    return table(["", *COLUMNS], rows)


# --- what it costs -----------------------------------------------------------------------------


def test_what_it_costs(large: Bench, measure: Callable[[Sequence[str]], Cost]) -> None:
    """Measured, not judged: figures for the page."""
    rows = []
    for peer in PEERS:
        version = _run(large.shell(peer.version, large.folder)).stdout.split()[-1]
        medium = large.medium("one")
        os.sync()
        create = measure(large.shell(f'{peer.create}; sync --file-system "$M"', medium))
        verify = measure(large.shell(peer.verify, medium))
        extra = sum(path.stat().st_size for path in _files(medium)) / payload_size(large) - 1
        rows.append([f"{peer.name} ({version})", *cells(create), *cells(verify), f"{extra:+.1%}"])
        shutil.rmtree(medium)
    sides = [f"{side}, {what}" for side in ("create", "verify") for what in ("s", "CPU s", "MB", "others")]
    text = table(["", *sides, "more bytes"], rows)
    print(f"\n{text}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(f"{text}\n", encoding="utf-8")
    assert len(rows) == len(PEERS)


def payload_size(bench: Bench) -> int:
    return sum(path.stat().st_size for path in _files(bench.folder / "payload"))


def cells(cost: Cost) -> list[str]:
    """Wall and CPU seconds, megabytes at the peak, and what others used of the machine meanwhile."""
    return [f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.memory / 1e6:.0f}", f"{cost.others:.0%}"]


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
