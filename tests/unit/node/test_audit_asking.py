"""The question and its answer, by the real program on this machine; and nodes that do not answer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.errors import ApplianceError, NodeUnreachable, PreflightFailed
from appliance.node.audit import asking
from appliance.node.audit.asking import Facts, ask, declared_commands, state_commands
from appliance.node.connection import LocalConnection
from appliance.node.host_data import load_host_data

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.node.connection import Connection

NODE = NodeEntry("here", "local", ip_address("10.20.0.11"), 22, ())
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a node is asked as root")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small node: this machine, of whose files only a folder is looked at."""
    home = tmp_path / "appliance"
    home.mkdir()
    monkeypatch.setattr(asking, "HOME", str(home))
    monkeypatch.setattr(asking, "TREES", (str(home),))
    monkeypatch.setattr(asking, "APART", (str(home / "baseline.json"),))
    monkeypatch.setattr(asking, "LOGIN_FILES", ())
    return home


def asked(commands: dict[str, str], **more: bool) -> Facts:
    return ask(LocalConnection(NODE), commands, **more)


@as_root
def test_the_real_program_answers(home: Path) -> None:
    (home / "installed.json").write_text('{"digest": "d"}')
    (home / "baseline.json").write_text("what it was")
    facts = asked({"hello": "echo $LC_ALL", "bad": "echo out; echo no >&2; exit 3"})
    assert facts.said == {"hello": (0, "C.UTF-8\n"), "bad": (3, "no\n")}
    assert set(facts.files) == {str(home), f"{home}/installed.json"}
    assert {"users", "packages", "mounts", "kernel", "modules", "drives"} == facts.host.keys()
    assert facts.host["users"]["root"].startswith("uid 0, gid 0")
    assert facts.installed == {"digest": "d"}
    assert facts.staged == {"list": None, "mark": None, "files": 0, "wrong": {}}
    assert facts.baseline == hashlib.sha256(b"what it was").hexdigest()
    assert facts.text is None
    assert abs(facts.reading.offset) <= facts.reading.error, "it is this machine's clock"


@as_root
def test_the_nodes_copy_comes_if_it_is_wanted(home: Path) -> None:
    assert asked({}, send=True).text is None
    (home / "baseline.json").write_text("what it was")
    assert asked({}, send=True).text == "what it was"


@as_root
def test_a_record_that_cannot_be_read_is_none(home: Path) -> None:
    (home / "installed.json").write_text("{")
    facts = asked({})
    assert (facts.installed, facts.staged) == (None, None)


def test_every_command_is_one_that_reads() -> None:
    commands = {**state_commands(), **declared_commands(load_host_data())}
    assert len(commands) == len(state_commands()) + len(declared_commands(load_host_data()))
    for name, text in commands.items():
        done = subprocess.run(["sh", "-n", "-c", text], check=False, capture_output=True)
        assert done.returncode == 0, name
        words = set(text.replace(";", " ").split())
        assert not words & {"rm", "mv", "tee", "start", "stop", "enable", "mask", "-w", "--write", ">"}, (
            name
        )


class Answering(LocalConnection):
    """A node that says this."""

    def __init__(self, node: NodeEntry, status: int, out: bytes = b"", err: bytes = b"") -> None:
        super().__init__(node)
        object.__setattr__(self, "done", subprocess.CompletedProcess([], status, out, err))

    def run(
        self, command: str, *, stdin: bytes = b"", timeout: float | None = 60
    ) -> subprocess.CompletedProcess[bytes]:
        assert json.loads(stdin.rpartition(b"\n{")[2].join((b"{", b"")))["home"] == asking.HOME
        return self.done  # type: ignore[attr-defined, no-any-return]


SSH = NodeEntry("there", "ssh", ip_address("10.20.0.12"), 22, ())


@pytest.mark.parametrize(
    ("connection", "error", "found"),
    [
        (Answering(SSH, 255, err=b"Connection refused"), NodeUnreachable, "Connection refused"),
        (Answering(SSH, 127), PreflightFailed, "no python3"),
        (Answering(NODE, 255, err=b"odd"), PreflightFailed, "odd"),
        (Answering(SSH, 1, b"", b"Traceback"), PreflightFailed, "Traceback"),
        (Answering(SSH, 0, b'{"uid": 1000}\n'), PreflightFailed, "user 1000"),
    ],
)
def test_a_node_that_cannot_be_asked_is_told_as_what_it_is(
    connection: Connection, error: type[ApplianceError], found: str
) -> None:
    with pytest.raises(error) as caught:
        ask(connection, {})
    assert caught.value.found == found
    assert caught.value.hint


def test_a_node_that_does_not_end_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, timeout: float, **__: object) -> None:
        raise subprocess.TimeoutExpired("ssh", timeout)

    monkeypatch.setattr(LocalConnection, "run", never)
    with pytest.raises(NodeUnreachable) as caught:
        ask(LocalConnection(NODE), {})
    assert "900 s" in str(caught.value.found)
