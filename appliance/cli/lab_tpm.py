"""``appliance lab tpm``: take a virtual machine's TPM out, put it back, or put another one in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

tpm_app = typer.Typer(
    name="tpm",
    help="Pull a virtual machine's TPM, put it back, or put a new one in. The machine has to be off.",
    no_args_is_help=True,
)

_NodeName = Annotated[str, typer.Argument(metavar="NAME", help="A node, or a lab with one node.")]


@tpm_app.command("pull")
def pull(name: _NodeName, as_json: AsJson = False) -> None:
    """Take a node's TPM out: it boots without one until it is put back.

    \b
    Examples:
      appliance lab power cut sed && appliance lab tpm pull sed && appliance lab power on sed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.lab.tpm import pull_tpm

    _change(name, pull_tpm, "out", as_json=as_json)


@tpm_app.command("put")
def put(name: _NodeName, as_json: AsJson = False) -> None:
    """Put the TPM back that was taken out of a node; it knows what it knew.

    \b
    Examples:
      appliance lab tpm put sed
    """  # noqa: D301 - as above
    from appliance.lab.tpm import put_tpm

    _change(name, put_tpm, "in", as_json=as_json)


@tpm_app.command("new")
def new(name: _NodeName, as_json: AsJson = False) -> None:
    """Put a new TPM into a node, as with another mainboard; the old one is gone for good.

    \b
    Examples:
      appliance lab tpm new sed
    """  # noqa: D301 - as above
    from appliance.lab.tpm import new_tpm

    _change(name, new_tpm, "in", as_json=as_json)


def _change(name: str, change: Callable[[Path], None], state: str, *, as_json: bool) -> None:
    from appliance.lab.places import Places
    from appliance.lab.power import change_tpm

    node = change_tpm(Places.from_environment(), name, change)
    print_result(f"the TPM of {node.name} is {state}", {"node": node.name, "tpm": state}, as_json=as_json)
