"""One question to a program of ours on a node, and its one answer: JSON each, on a line."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from appliance.node.connection import SSH_FAILED
from appliance.node.script import load_script, start_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.node.connection import Connection


class BrokenOffError(Exception):
    """The connection broke, or nothing came in time; says which."""


def put_question(
    connection: Connection, program: Sequence[str], asked: Mapping[str, Any], *, seconds: float
) -> Any:
    """Ask, and give back what was answered, which may be any JSON: a node can say what it likes.

    Args:
        connection: to the node.
        program: modules below ``remote/``, the one that runs first.
        asked: the question.
        seconds: how long the answer may take.

    Returns:
        The answer; ``{"error": "failed", "text": …}`` where the program gave none.

    Raises:
        BrokenOffError: nobody knows whether it was heard.
    """
    script = load_script(*program)
    try:
        done = connection.run(
            start_command(script, program[0]),
            stdin=script + json.dumps(asked).encode() + b"\n",
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise BrokenOffError(f"no answer within {seconds} s") from None
    told = done.stderr.decode(errors="replace").strip()[-500:]
    if done.returncode == SSH_FAILED and connection.node.connection == "ssh":
        raise BrokenOffError(told)
    try:
        return json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return {"error": "failed", "text": told or f"exit status {done.returncode}"}
