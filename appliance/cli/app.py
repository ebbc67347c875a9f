"""The program's entry point: the command table, and the one place errors are caught.

Starting the program imports Typer and nothing heavy: every command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback

import typer

from appliance import __version__
from appliance.cli.build import build
from appliance.cli.console import print_error
from appliance.cli.inspect import inspect
from appliance.cli.install import install
from appliance.cli.lab import lab_app
from appliance.cli.lock import lock
from appliance.cli.media import media_app
from appliance.cli.sign import sign
from appliance.cli.store import store_app
from appliance.cli.trust import trust_app
from appliance.cli.verify import verify
from appliance.errors import ApplianceError

app = typer.Typer(
    name="appliance",
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
app.add_typer(media_app)
app.add_typer(store_app)
app.add_typer(trust_app)
app.add_typer(lab_app)


def main() -> None:
    """Run the program and exit with the code of DESIGN's table (see ``appliance.errors``)."""
    try:
        app()
    except ApplianceError as error:
        if os.environ.get("APPLIANCE_VERBOSE"):
            traceback.print_exc()
        print_error(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("interrupted; run the same command again to go on", err=True)
        sys.exit(130)
