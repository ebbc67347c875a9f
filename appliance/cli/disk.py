"""``appliance disk``: what drives are, and what may be done to them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated, Any

import typer

from appliance.cli.console import print_error, print_result
from appliance.cli.disk_bind import bind
from appliance.cli.disk_enroll import enroll
from appliance.cli.disk_escrow import escrow_app
from appliance.cli.disk_mount import mount
from appliance.cli.disk_retire import certificate, retire
from appliance.cli.disk_rotate import rotate
from appliance.cli.disk_unlock import unlock
from appliance.cli.options import AsJson, OnlyNodes  # noqa: TC001 - Typer reads them at run time

disk_app = typer.Typer(
    name="disk",
    help="Self-encrypting drives: what they are, and whether they may be encrypted.",
    no_args_is_help=True,
)
disk_app.command("enroll")(enroll)
disk_app.command("bind")(bind)
disk_app.command("unlock")(unlock)
disk_app.command("mount")(mount)
disk_app.command("rotate")(rotate)
disk_app.command("retire")(retire)
disk_app.command("certificate")(certificate)
disk_app.add_typer(escrow_app)


@disk_app.callback()
def _disk() -> None:
    """Self-encrypting drives: what they are, and whether they may be encrypted."""
    from appliance.disk.memory import has_swap, protect_memory

    if not protect_memory() and has_swap():
        typer.echo(
            "note: what is in this program's memory may be swapped to a disk: run it as root, or swapoff",
            err=True,
        )


@disk_app.command("status")
def status(
    drives: Annotated[
        list[str] | None, typer.Argument(metavar="[DRIVE]...", help="Device or serial number; else all.")
    ] = None,
    *,
    inventory: Annotated[
        Path | None, typer.Option("--inventory", "-i", help="Ask this site's nodes, not this machine.")
    ] = None,
    limit: OnlyNodes = None,
    as_json: AsJson = False,
) -> None:
    """Say what the drives are: features, owner, locks, encryption, use; and whether they may be enrolled.

    Asks the drives of this machine, or with -i those of nodes, without any
    PIN and without a session. Changes nothing. Run it as root: others are
    not told enough, and it says so.

    \b
    Examples:
      appliance disk status
      appliance disk status /dev/nvme1n1 --json
      appliance disk status -i my-site --limit gpu-01

    \b
    Exit codes:
      0  told, whatever the drives are       3  the inventory is wrong
      5  there is no such drive, or a node cannot say
      6  a node cannot be reached
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.disk.present import node_text, node_values, several_text
    from appliance.disk.reading import read_here
    from appliance.disk.selection import select_drives
    from appliance.disk.state import read_state

    if inventory is None:
        host, found = read_state(read_here())
        chosen = select_drives(found, drives or ())
        print_result(node_text(host, chosen), node_values(host, chosen), as_json=as_json)
        return
    answers, code = _nodes(inventory, limit or []), 0
    texts, values = {}, {}
    for name, answer in answers.items():
        if not isinstance(answer, dict):
            code = max(code, answer.exit_code)
            texts[name], values[name] = f"error: {answer.message}", answer.as_dict()
            print_error(answer, as_json=False)
            continue
        host, found = read_state(answer)
        chosen = select_drives(found, drives or (), node=name)
        texts[name], values[name] = node_text(host, chosen), node_values(host, chosen)
    print_result(several_text(texts), {"nodes": values}, as_json=as_json)
    raise typer.Exit(code)


def _nodes(inventory: Path, limit: list[str]) -> dict[str, Any]:
    from appliance.disk.reading import reading_program
    from appliance.node.drives import ask_drives
    from appliance.node.site import load_inventory, select_nodes

    site = load_inventory(inventory)
    return ask_drives(site, select_nodes(site, tuple(limit)), reading_program())
