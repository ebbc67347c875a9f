"""``appliance media``: a bundle on several media, from the build station to the node."""

from __future__ import annotations

import typer

from appliance.cli.media_check import check
from appliance.cli.media_join import join
from appliance.cli.media_plan import plan
from appliance.cli.media_repair import parity, repair
from appliance.cli.media_write import write

media_app = typer.Typer(
    name="media",
    help="Carry a bundle on several sticks or disks: plan, write, check, repair.",
    no_args_is_help=True,
)


@media_app.callback()
def _media() -> None:
    """Carry a bundle on several sticks or disks: plan, write, check, repair."""


media_app.command("plan")(plan)
media_app.command("write")(write)
media_app.command("check")(check)
media_app.command("repair")(repair)
media_app.command("parity")(parity)
media_app.command("join")(join)
