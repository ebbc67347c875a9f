"""One question to a program of ours on a node, and its one answer: JSON each, on a line."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from appliance.node.connection import SSH_FAILED
from appliance.node.script import load_script, start_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.node.connection import Connection


class BrokenOffError(Exception):
    """The connection broke, or nothing came in time; says which."""


@dataclass(frozen=True)
class Said:
    """What a program on a node said: what it printed, the end of what it complained of, its exit status."""

    printed: bytes
    complaint: str
    status: int

    def answer(self) -> Any:
        """The last line, which may be any JSON: a node can say what it likes.

        Raises:
            ValueError: there is none; says what is known of why.
        """
        try:
            return json.loads(self.printed.splitlines()[-1])
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except (ValueError, IndexError):
            printed = self.printed.decode(errors="replace").strip()[-300:]
            raise ValueError(self.complaint or printed or f"exit status {self.status}") from None


def run_program(
    connection: Connection,
    program: bytes,
    name: str,
    question: bytes = b"",
    *,
    seconds: float | None,
    secret: bool = False,
) -> Said:
    """Run a program of ours on a node.

    Args:
        connection: to the node.
        program: its text, ``load_script``.
        name: what its tracebacks call it.
        question: follows the text on standard input, and is the program's own.
        seconds: how long it may take; None is for ever.
        secret: the question is, so that a crash leaves no memory on a disk; what it starts inherits that.

    Raises:
        BrokenOffError: nobody knows whether it was heard.
    """
    command = ("ulimit -c 0; " if secret else "") + start_command(program, name)
    try:
        done = connection.run(command, stdin=program + question, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise BrokenOffError(f"no answer within {seconds} s") from None
    complaint = done.stderr.decode(errors="replace").strip()[-500:]
    # Through a shell of this machine, 255 is the program's own.
    if done.returncode == SSH_FAILED and connection.node.connection == "ssh":
        raise BrokenOffError(complaint or "ssh failed")
    return Said(done.stdout, complaint, done.returncode)


def put_question(
    connection: Connection, program: Sequence[str], asked: Mapping[str, Any], *, seconds: float
) -> Any:
    """Ask, and give back what was answered.

    Args:
        connection: to the node.
        program: modules below ``remote/``, the one that runs first.
        asked: the question.
        seconds: how long the answer may take.

    Returns:
        The answer, any JSON; ``{"error": "failed", "text": …}`` where the program gave none.

    Raises:
        BrokenOffError: nobody knows whether it was heard.
    """
    script = load_script(*program)
    said = run_program(connection, script, program[0], question_line(asked), seconds=seconds)
    try:
        return said.answer()
    except ValueError as none:
        return {"error": "failed", "text": str(none)}


def question_line(asked: Mapping[str, Any]) -> bytes:
    """A question as programs read it from standard input."""
    return json.dumps(asked).encode() + b"\n"
