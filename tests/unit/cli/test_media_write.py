"""``media plan`` and ``media write`` as a person runs them."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from appliance.bundle.media.write import write_media
from appliance.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.trust.root import Root
    from tests.conftest import BundleMaker
    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

PROGRAM = [sys.executable, "-c", "from appliance.cli.app import main; main()"]
MIB = 1 << 20


@pytest.fixture(scope="module")
def large_bundle(
    tmp_path_factory: pytest.TempPathFactory, maker_in: Callable[[Path], BundleMaker], two_of_three: Root
) -> Path:
    """One that needs two media of 64 MB as they are bought.  Not to be changed."""
    maker = maker_in(tmp_path_factory.mktemp("large"))
    data = random.Random(2).randbytes(8 * MIB)  # noqa: S311 - the same bytes in every run
    parts = {f"part-{number}": bytes([number]) + data for number in range(4)}
    contents = {
        "engine": ("python", {"engine-1.0-py3-none-any.whl": b"wheel", "requirements.txt": b"engine\n"}),
        "extras": ("files", parts),
        "model": ("tiny-gguf", {"tiny.gguf": b"GGUF"}),
    }
    return maker.sign(maker.write("bundle", two_of_three, maker.lock(contents)), "alice", "bob")


@pytest.fixture
def sticks(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    return folders


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_plan_says_what_lies_where(appliance: Run, large_bundle: Path) -> None:
    done = appliance("media", "plan", large_bundle, "--size", "64MB")
    assert done.code == 0
    assert "2 volumes for 33.6 MB" in done.out
    assert "64.0 MB" in done.out
    assert done.out.splitlines()[-1].strip() == "payload/model/tiny.gguf"
    values = appliance("media", "plan", large_bundle, "--size", "64MB", "--json").json
    assert [(volume["number"], volume["components"]) for volume in values["volumes"]] == [
        (1, ["engine", "extras"]),
        (2, ["extras", "model"]),
    ]
    assert all(volume["takes"] <= volume["room"] for volume in values["volumes"])


def test_plan_for_media_that_are_there(appliance: Run, large_bundle: Path, sticks: list[Path]) -> None:
    values = appliance("media", "plan", large_bundle, "--to", sticks[0], "--json").json
    assert [volume["medium"] for volume in values["volumes"]] == [str(sticks[0])]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "name sizes or mounted media"),
        (["--size", "64GB", "--to", "."], 2, "name sizes or mounted media"),
        (["--size", "64"], 2, "a size is misspelled"),
        (["--size", "1MB"], 5, "is too small for volume 1"),
        (["--size", "16MB"], 5, "room for 0 bytes, since formatting takes 33,570,432\n"),
        (["--size", "40MB"], 5, "40.0 MB is too small for volume 2"),
        (["--to", "/none"], 5, "is not a folder that can be read"),
        (["--to", "/", "--to", "/"], 2, "a medium is given twice"),
    ],
)
def test_plan_refuses(
    appliance: Run, large_bundle: Path, arguments: list[str], code: int, message: str
) -> None:
    done = appliance("media", "plan", large_bundle, *arguments)
    assert done.code == code
    assert message in done.err


def test_write_says_what_it_did(
    appliance: Run, large_bundle: Path, sticks: list[Path], root_file: Path
) -> None:
    command = ["media", "write", large_bundle, *sticks, "--size", "64MB", "--trust", root_file]
    done = appliance(*command)
    assert done.code == 0
    assert "signed by alice, bob: enough, by the root you trust" in done.out
    assert f"volume 1 of 2: {sticks[0]}/demo-1.0.0." in done.out
    assert "volume 1 of 2: " in done.err  # progress
    again = appliance(*command, "--json").json
    assert [(volume["number"], volume["written"]) for volume in again["volumes"]] == [(1, 0), (2, 0)]
    assert (again["signers"], again["trusted"], again["count"]) == (["alice", "bob"], True, 2)
    flip(next(sticks[1].rglob("part-3")))
    done = appliance(*command)
    assert "were there, read again and right" in done.out
    assert "8.4 MB written" not in done.out
    assert "  mended   payload/extras/part-3: was there, and wrong\n" in done.out
    assert "all of it was read from the media in this run, and is right" in done.out


def test_write_says_that_nobody_judged_the_signatures(
    appliance: Run, large_bundle: Path, sticks: list[Path], maker: BundleMaker
) -> None:
    done = appliance("media", "write", large_bundle, *sticks, "--size", "64MB")
    assert "signed by alice, bob: NOT JUDGED" in done.out
    (sticks[0].parent / "c").mkdir()
    unsigned = appliance(
        "media", "write", maker.write("unsigned", None), sticks[0].parent / "c", "--size", "1GB"
    )
    assert "NOT SIGNED" in unsigned.out


def test_write_only_one_volume_like_another(
    appliance: Run, large_bundle: Path, sticks: list[Path], tmp_path: Path
) -> None:
    appliance("media", "write", large_bundle, *sticks, "--size", "64MB")
    (tmp_path / "new").mkdir()
    arguments = ["--like", sticks[0], "--only", 2, "--size", "1GB", "--json"]
    done = appliance("media", "write", large_bundle, tmp_path / "new", *arguments)
    assert [volume["number"] for volume in done.json["volumes"]] == [2]
    done = appliance("media", "write", large_bundle, tmp_path / "new", "--only", 2, "--size", "1GB")
    assert "neither written nor read: volume 1 of 2\n" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fingerprint", "0" * 64], "--fingerprint needs the root"),
        (["--erase", "/dev/x"], "are for encrypted media"),
        (["--key-file", "x"], "are for encrypted media"),
        (["--luks"], "no terminal to ask for the passphrase"),
    ],
)
def test_write_refuses_contradictions(
    appliance: Run, large_bundle: Path, sticks: list[Path], arguments: list[str], message: str
) -> None:
    done = appliance("media", "write", large_bundle, sticks[0], *arguments)
    assert done.code == 2
    assert message in done.err
    assert not any(sticks[0].iterdir())


def test_write_names_a_place_where_nothing_is_mounted(
    appliance: Run, large_bundle: Path, sticks: list[Path]
) -> None:
    done = appliance("media", "write", large_bundle, sticks[0], "--json")
    assert (done.code, done.json["error"]) == (5, "MediumUnsuitable")
    assert "no medium is mounted" in done.err


class Terminal:
    """The program on a terminal of its own, and somebody who reads and types there."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        command = [*PROGRAM, *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=subprocess.PIPE, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> None:
        while text not in self.seen:
            self.seen += os.read(self._master, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str]:
        out, _ = self._process.communicate()
        os.close(self._master)
        return self._process.returncode, out.decode()


def test_the_next_medium_is_asked_for_on_a_terminal(large_bundle: Path, sticks: list[Path]) -> None:
    here, other = sticks
    terminal = Terminal("media", "write", large_bundle, here, "--size", "64MB")
    terminal.read_until("Then press Enter.")
    for expected in (
        "Volume 2 of 2 comes next",
        f"the medium at {here}",
        "Write on it: demo 1.0.0, volume 2 of 2, ",
    ):
        assert expected in terminal.seen
    terminal.seen = ""
    terminal.type("\n")  # without having changed it
    terminal.read_until("Then press Enter.")
    assert "holds volume 1 of 2 already" in terminal.seen
    here.rename(here.with_name("done"))
    other.rename(here)
    terminal.type("\n")
    code, out = terminal.end()
    assert code == 0
    assert f"volume 2 of 2: {here}/demo-1.0.0." in out


def test_ending_at_the_prompt_keeps_what_is_done(large_bundle: Path, sticks: list[Path]) -> None:
    terminal = Terminal("media", "write", large_bundle, sticks[0], "--size", "64MB")
    terminal.read_until("Then press Enter.")
    terminal.type("\x04")  # end of file, as Ctrl-C would end it
    terminal.read_until("run the same command again to go on")
    code, _ = terminal.end()
    assert code == 130
    again = write_media(large_bundle, sticks, progress=Silent(), sizes=[64 * MIB])
    assert [volume.written > 0 for volume in again.volumes] == [False, True]
