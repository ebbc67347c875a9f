"""``media join`` as a person runs it, with one port and with several."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

PROGRAM = [sys.executable, "-c", "from appliance.cli.app import main; main()"]


@pytest.fixture
def three(bundle: Path, volumes: Callable[..., list[Path]]) -> list[Path]:
    return volumes(bundle, 2, 3)


def test_several_ports(appliance: Run, three: list[Path], tmp_path: Path, root_file: Path) -> None:
    done = appliance("media", "join", *three, "--out", tmp_path / "out", "--trust", root_file)
    assert done.code == 0
    assert f"joined      {tmp_path / 'out'}" in done.out
    assert "signed by alice, bob: enough" in done.out
    assert appliance("verify", tmp_path / "out", "--trust", root_file).code == 0
    done = appliance("media", "join", *three, "--out", tmp_path / "again", "--json")
    assert (done.json["signers"], done.json["product"]) == ([], "demo")
    assert appliance("media", "join", *three, "--out", tmp_path / "again").code == 2


def test_nobody_at_the_terminal(appliance: Run, three: list[Path], tmp_path: Path) -> None:
    done = appliance("media", "join", *three[:2], "--out", tmp_path / "out", "--json")
    assert (done.code, done.json["error"]) == (4, "VolumeMissing")
    done = appliance("media", "join", three[2], "--out", tmp_path / "out")
    assert done.code == 0
    assert "NOT JUDGED by any root" in done.out
    assert "were there" in done.out


def test_one_port(three: list[Path], tmp_path: Path) -> None:
    """At a terminal: the same place again by Enter, another one by its name."""
    ours, theirs = pty.openpty()
    os.write(ours, f"\n{three[1].parent}\n{three[2]}\n".encode())
    command = [*PROGRAM, "media", "join", str(three[0]), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    os.close(theirs)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0, said
    assert "joined" in done.stdout
    assert said.count("Still missing: volume 2: payload/extras/empty, 0 bytes; volume 3: ") == 2
    assert f"nothing that is still missing lies at {three[0]}" in said
    assert "Still missing: volume 3: payload/extras/site/notice.txt to payload/model/tiny.gguf" in said
