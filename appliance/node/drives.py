"""Asks nodes what their drives say of themselves, or has something done to one; see ``appliance.disk``."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ApplianceError, NodeUnreachable, PreflightFailed
from appliance.node.connection import SSH_FAILED, open_connections
from appliance.node.private import private_folder
from appliance.node.script import NO_PYTHON, load_script, start_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection

#: The program that does something to a drive, and what it is made of, in the order of their imports.
_TCG: Final = "appliance.tcg"
_MODULES: Final = ("status", "stream", "packets", "uids", "asking", "acts", "blocks")
#: A drive that does not answer has a minute from the kernel; several may not.
_SECONDS: Final = 600


def ask_drives(
    inventory: Inventory, nodes: Sequence[NodeEntry], program: bytes
) -> dict[str, dict[str, Any] | ApplianceError]:
    """Ask nodes at the same time; by name what each said, or why it could not be asked.

    Args:
        inventory: how nodes are reached.
        nodes: which.
        program: prints one line of JSON, and needs nothing but Python.
    """
    with private_folder() as private:
        connections = open_connections(inventory, nodes, private)

        def one(connection: Connection) -> dict[str, Any] | ApplianceError:
            try:
                return ask_node_drives(connection, program)
            except ApplianceError as trouble:
                return trouble
            finally:
                connection.close()

        with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
            return dict(zip(connections, pool.map(one, connections.values()), strict=True))


def ask_node_drives(connection: Connection, program: bytes) -> dict[str, Any]:
    """What one node says of its drives.

    Raises:
        NodeUnreachable: it does not answer.
        PreflightFailed: it cannot say.
    """
    return _answer(connection, program, b"", "what its drives are")


def ask_node_drive(connection: Connection, request: bytes) -> dict[str, Any]:
    """Have something done to a drive of a node (``appliance.tcg.program``); what came of it.

    Args:
        connection: to the node.
        request: one line; secrets in it go by standard input.

    Raises:
        NodeUnreachable: it does not answer.
        PreflightFailed: it cannot say.
    """
    program = load_script("program", *_MODULES, package=_TCG)
    return _answer(connection, program, request, "what came of it")


def _answer(connection: Connection, program: bytes, request: bytes, what: str) -> dict[str, Any]:
    """The last line that a program prints, as JSON."""
    name = connection.node.name
    try:
        command = start_command(program, "drives")
        done = connection.run(command, stdin=program + request, timeout=_SECONDS)
    except subprocess.TimeoutExpired as fault:
        raise NodeUnreachable(f"{name} does not answer", found=f"nothing within {_SECONDS} s") from fault
    told = done.stderr.decode(errors="replace").strip()[-500:]
    if done.returncode == SSH_FAILED and connection.node.connection == "ssh":
        raise NodeUnreachable(
            f"{name} does not answer",
            found=told or "ssh failed",
            wanted=f"an answer at {connection.node.address} port {connection.node.port}",
            hint="check power, cable and pinned host key",
        )
    try:
        if done.returncode == NO_PYTHON:
            raise ValueError("no python3")
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as fault:
        raise PreflightFailed(
            f"{name} cannot say {what}",
            found=told or str(fault),
            wanted="python3, and one line of JSON",
            hint="log in and run: python3 --version",
        ) from fault
    return answer
