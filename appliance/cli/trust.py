"""``appliance trust``: the table of its commands, one file each."""

from __future__ import annotations

import typer

from appliance.cli.trust_admit import admit
from appliance.cli.trust_assemble import assemble
from appliance.cli.trust_drill import drill
from appliance.cli.trust_init import init
from appliance.cli.trust_inspect import inspect
from appliance.cli.trust_keygen import keygen
from appliance.cli.trust_node import node
from appliance.cli.trust_permit_drives import permit_drives
from appliance.cli.trust_propose import propose, rotate
from appliance.cli.trust_revoke import revoke
from appliance.cli.trust_show import read, show
from appliance.cli.trust_sign import sign
from appliance.cli.trust_statements import attest_time, enrol, permit, waive
from appliance.cli.trust_transcript import transcript_app

trust_app = typer.Typer(
    name="trust",
    help="Say whose keys count, what is taken back, and what a node may do. Only `node` needs a network.",
    no_args_is_help=True,
)
trust_app.command("keygen")(keygen)
trust_app.command("init")(init)
trust_app.command("propose")(propose)
trust_app.command("rotate")(rotate)
trust_app.command("sign")(sign)
trust_app.command("assemble")(assemble)
trust_app.command("inspect")(inspect)
trust_app.command("revoke")(revoke)
trust_app.command("admit")(admit)
trust_app.command("permit")(permit)
trust_app.command("permit-drives")(permit_drives)
trust_app.command("waive")(waive)
trust_app.command("attest-time")(attest_time)
trust_app.command("enrol")(enrol)
trust_app.command("node")(node)
trust_app.add_typer(transcript_app)
trust_app.command("show")(show)
trust_app.command("read")(read)
trust_app.command("drill")(drill)
