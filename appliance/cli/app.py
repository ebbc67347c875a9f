"""The program's entry point: the command table, and the one place errors are caught.

Starting the program imports Typer and nothing heavy: every command imports what it needs when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from typing import TYPE_CHECKING

import typer
from typer._click.exceptions import UsageError  # Typer has no public name for it
from typer.core import TyperGroup

from appliance import __version__
from appliance.cli.audit import audit
from appliance.cli.build import build
from appliance.cli.console import print_error
from appliance.cli.disk import disk_app
from appliance.cli.export import export_app
from appliance.cli.frames import frames
from appliance.cli.hardware import hardware
from appliance.cli.inspect import inspect
from appliance.cli.install import install
from appliance.cli.interrupts import keeping_interrupts
from appliance.cli.lab import lab_app
from appliance.cli.lock import lock
from appliance.cli.media import media_app
from appliance.cli.patch import patch_app
from appliance.cli.plan import plan_app
from appliance.cli.sign import sign
from appliance.cli.status import status
from appliance.cli.store import store_app
from appliance.cli.trust import trust_app
from appliance.cli.verify import verify
from appliance.errors import ApplianceError, Interrupted, Usage

if TYPE_CHECKING:
    from typer._click import Context


class _Program(TyperGroup):
    """The table of commands; of Ctrl-C Typer would make an exit code that says nothing."""

    def invoke(self, ctx: Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as fault:
            raise _interrupted() from fault


app = typer.Typer(
    name="appliance",
    cls=_Program,
    help="Provision air-gapped inference nodes from signed offline bundles.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"appliance {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(  # noqa: ARG001 - consumed by the eager callback
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show tracebacks of errors."),
) -> None:
    if verbose:
        os.environ["APPLIANCE_VERBOSE"] = "1"


app.command("lock")(lock)
app.command("build")(build)
app.command("sign")(sign)
app.command("verify")(verify)
app.command("inspect")(inspect)
app.command("install")(install)
app.command("hardware")(hardware)
app.command("frames")(frames)
app.command("audit")(audit)
app.command("status")(status)
app.add_typer(disk_app)
app.add_typer(media_app)
app.add_typer(patch_app)
app.add_typer(plan_app)
app.add_typer(store_app)
app.add_typer(trust_app)
app.add_typer(export_app)
app.add_typer(lab_app)


def main() -> None:
    """Run the program and exit with the code of DESIGN's table (see ``appliance.errors``)."""
    try:
        with keeping_interrupts():
            code = _run()
    except ApplianceError as error:
        if os.environ.get("APPLIANCE_VERBOSE"):
            traceback.print_exc()
        print_error(error, as_json="--json" in sys.argv)
        code = error.exit_code
    gc.freeze()  # at its end Python would look for garbage in all that the system takes back anyway: 0.1 s
    sys.exit(code)


def _run() -> int:
    """Run one command; what Typer says in its own ways is said in ours.

    Raises:
        ApplianceError: something for a person to act on.
    """
    try:
        code = app(prog_name="appliance", standalone_mode=False) or 0
    except UsageError as fault:
        if not (said := fault.format_message().strip()):  # no arguments at all: the help was printed
            return Usage.exit_code
        command = fault.ctx.command_path if fault.ctx else "appliance"
        raise Usage(said, hint=f"{command} --help says how it is called") from fault
    except typer.Abort as fault:  # what Typer makes of a terminal that was closed
        raise _interrupted() from fault
    return int(code)


def _interrupted() -> Interrupted:
    return Interrupted("interrupted", hint="run the same command again to go on")
