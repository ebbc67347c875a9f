"""One question to a node, one answer, and every way in which there is none."""

from __future__ import annotations

import resource
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

import pytest

from appliance.definition.inventory import NodeEntry
from appliance.node.connection import LocalConnection, SshConnection
from appliance.node.question import BrokenOffError, Said, run_program

if TYPE_CHECKING:
    from pathlib import Path

HERE = LocalConnection(NodeEntry("here", "local", IPv4Address("10.20.0.11"), 22, ()))


def said(text: str, question: bytes = b"", *, seconds: float = 30, secret: bool = False) -> Said:
    return run_program(HERE, text.encode(), "program", question, seconds=seconds, secret=secret)


def test_the_question_follows_the_program_and_the_last_line_is_the_answer() -> None:
    told = said("import sys; print('a banner'); print(sys.stdin.read())", b'{"question": [1]}')
    assert told.answer() == {"question": [1]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('a banner')", "a banner"),
        ("import sys; print('a banner'); sys.exit('no disk')", "no disk"),
        ("import sys; sys.exit(7)", "exit status 7"),
        ("print('[' * 200_000)", "nested too deeply"),
        # Through a shell of this machine, what ssh says of itself is the program's own.
        ("import sys; sys.exit(255)", "exit status 255"),
    ],
)
def test_where_there_is_no_answer_it_says_what_is_known(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        said(text).answer()


def test_what_holds_secrets_leaves_no_memory_on_a_disk() -> None:
    """And nothing else is held back: qualification tries whether crashes leave any."""
    text = "import resource; print(list(resource.getrlimit(resource.RLIMIT_CORE)))"
    assert said(text, secret=True).answer() == [0, 0]
    assert said(text).answer() == list(resource.getrlimit(resource.RLIMIT_CORE))


def test_a_program_that_does_not_end_is_broken_off() -> None:
    with pytest.raises(BrokenOffError, match=r"no answer within 0\.5 s"):
        said("import time; time.sleep(60)", seconds=0.5)


def test_a_connection_that_breaks_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho no route to host >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    line = SshConnection(
        NodeEntry("far", "ssh", IPv4Address("192.0.2.1"), 22, ()), tmp_path / "config", "root"
    )
    with pytest.raises(BrokenOffError, match="no route to host"):
        run_program(line, b"", "program", seconds=30)
