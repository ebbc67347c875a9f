"""``appliance plan``: will it fit, and what will it cost, before anything is bought or built."""

from __future__ import annotations

import typer

from appliance.cli.plan_cost import cost
from appliance.cli.plan_size import size

plan_app = typer.Typer(
    name="plan",
    help="Plan a node before it is bought: does the model fit, and what does a token cost.",
    no_args_is_help=True,
)


@plan_app.callback()
def _plan() -> None:
    """Plan a node before it is bought: does the model fit, and what does a token cost."""


plan_app.command("size")(size)
plan_app.command("cost")(cost)
