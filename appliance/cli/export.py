"""``appliance export``: one-way log export; one file per command."""

from __future__ import annotations

import typer

from appliance.cli.export_check import check
from appliance.cli.export_dashboard import dashboard
from appliance.cli.export_init import init
from appliance.cli.export_line import line_app
from appliance.cli.export_receive import receive
from appliance.cli.export_replay import replay
from appliance.cli.export_scrape import scrape
from appliance.cli.export_send import send
from appliance.cli.export_status import status

export_app = typer.Typer(
    name="export",
    help="One-way log export: send, receive, prove that nothing is missing.",
    no_args_is_help=True,
)


@export_app.callback()
def _export() -> None:
    """One-way log export: send, receive, prove that nothing is missing."""


export_app.command("init")(init)
export_app.command("send")(send)
export_app.command("scrape")(scrape)
export_app.command("receive")(receive)
export_app.command("replay")(replay)
export_app.command("check")(check)
export_app.command("status")(status)
export_app.command("dashboard")(dashboard)
export_app.add_typer(line_app)
