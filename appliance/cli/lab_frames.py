"""``appliance lab frames``: was anything sent that may not be?"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def frames(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A virtual machine, or a lab with one.")
    ] = "practice",
    boot: Annotated[
        list[int] | None,
        typer.Option("--boot", "-b", min=1, metavar="N", help="Only this boot; repeatable."),
    ] = None,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="What is allowed; the lab's own if left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge every frame that a virtual machine has sent, by the inventory.

    After `appliance lab up --machine --capture`. A frame is beyond unless it
    belongs to a flow of the inventory, answers SSH, or is one by which
    neighbours on the wire find each other. What a machine sent before it was
    isolated is beyond, so name the boots after that.

    \b
    Examples:
      appliance lab frames icu
      appliance lab frames icu-02 --boot 2 --boot 3 --json

    \b
    Exit codes:
      8  a frame is beyond what is allowed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.errors import QualificationFailed
    from appliance.frames.judgement import text_of, values_of
    from appliance.lab.frames import judge_node
    from appliance.lab.places import Places, find_node
    from appliance.node.site import read_inventory

    places = Places.from_environment()
    lab, _, _ = find_node(places, name)
    site = read_inventory(inventory or places.inventory(lab.name))
    judged = judge_node(places, name, site, boots=boot or ())
    print_result(text_of(judged), values_of(judged), as_json=as_json)
    if any(each.beyond for each in judged):
        raise typer.Exit(QualificationFailed.exit_code)
