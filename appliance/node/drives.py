"""Asks nodes what their drives say of themselves, or has something done to one; see ``appliance.disk``."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from appliance.errors import ApplianceError, NodeUnreachable, PreflightFailed
from appliance.node.connection import open_connections
from appliance.node.private import private_folder
from appliance.node.question import BrokenOffError, run_program
from appliance.node.script import NO_PYTHON, load_script

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
        said = run_program(connection, program, "drives", request, seconds=_SECONDS, secret=True)
    except BrokenOffError as broken:
        raise NodeUnreachable(
            f"{name} does not answer",
            found=str(broken),
            wanted=f"an answer at {connection.node.address} port {connection.node.port}",
            hint="check power, cable and pinned host key",
        ) from None
    try:
        if said.status == NO_PYTHON:
            raise ValueError("no python3")
        answer = said.answer()
        if not isinstance(answer, dict):
            raise ValueError(f"JSON of another kind: {type(answer).__name__}")  # noqa: TRY004 - as above
    except ValueError as fault:
        raise PreflightFailed(
            f"{name} cannot say {what}",
            found=str(fault),
            wanted="python3, and one line of JSON",
            hint="log in and run: python3 --version",
        ) from fault
    found: dict[str, Any] = answer
    return found
