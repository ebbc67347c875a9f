"""``appliance lab power``: a practice node's switch, plug and reset button."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

power_app = typer.Typer(
    name="power",
    help="Pull a node's plug, switch it on, press its reset button.",
    no_args_is_help=True,
)

_NodeName = Annotated[str, typer.Argument(metavar="NAME", help="A node, or a lab with one node.")]
_Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=1.0, help="Seconds a node has to boot; 60, or 300 for a virtual machine."
    ),
]


@power_app.command("cut")
def cut(name: _NodeName, as_json: AsJson = False) -> None:
    """Pull a node's plug: nothing is shut down, and what it had not written is lost.

    \b
    Examples:
      appliance lab power cut practice
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.lab.places import Places
    from appliance.lab.power import cut_power

    node = cut_power(Places.from_environment(), name)
    print_result(f"{node.name} is off", {"node": node.name, "state": "off"}, as_json=as_json)


@power_app.command("on")
def on(name: _NodeName, timeout: _Timeout = None, as_json: AsJson = False) -> None:
    """Switch a node on; when this returns, it can be reached. One that is on stays as it is.

    \b
    Examples:
      appliance lab power on practice
    """  # noqa: D301 - as above
    from appliance.lab.places import Places
    from appliance.lab.power import power_on

    node = power_on(Places.from_environment(), name, timeout=timeout)
    print_result(f"{node.name} is on", {"node": node.name, "state": "running"}, as_json=as_json)


@power_app.command("reset")
def reset(name: _NodeName, timeout: _Timeout = None, as_json: AsJson = False) -> None:
    """Press a node's reset button; when this returns, it can be reached again.

    \b
    Examples:
      appliance lab power reset icu-02
    """  # noqa: D301 - as above
    from appliance.lab.places import Places
    from appliance.lab.power import reset_node

    node = reset_node(Places.from_environment(), name, timeout=timeout)
    print_result(f"{node.name} is up again", {"node": node.name, "state": "running"}, as_json=as_json)
