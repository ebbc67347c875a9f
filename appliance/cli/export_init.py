"""``appliance export init``: make a node's identity and its empty spool."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The sender's folder; made here.")],
    *,
    name: Annotated[str, typer.Option("--name", help="The node's name: small letters, digits, hyphens.")],
    as_json: AsJson = False,
) -> None:
    """Make a node's keys and its empty spool.

    DIR/identity.json never leaves the node. DIR/NAME.sender.json is carried
    to the receiver: it holds the public key, and the key of the tags that
    screen garbage. Make an identity of its own for each node.

    \b
    Examples:
      appliance export init /var/lib/appliance/export --name gpu-01
      appliance export init sender --name gpu-01 --json

    \b
    Exit codes:
      2  DIR is there already
      3  the name is misspelled
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.export.places import found_sender, sender_file

    identity = found_sender(folder, name)
    carried = sender_file(folder, name)
    lines = [
        f"node         {name}, {identity.node.hex()}",
        f"secret       {folder}/identity.json stays here",
        f"for others   {carried}: carry it to the receiver",
    ]
    values = {"name": name, "node": identity.node.hex(), "folder": str(folder), "sender": str(carried)}
    print_result("\n".join(lines), values, as_json=as_json)
