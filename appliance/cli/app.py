"""The program's entry point: the command table, and the one place errors are caught.

Starting the program imports Typer and nothing heavy: a command is imported, and Typer told of its options,
when it is asked for, and it imports what it needs when it runs.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import typer
import typer.main
from typer._click.exceptions import UsageError  # Typer has no public name for it
from typer.core import TyperCommand, TyperGroup

from appliance import __version__
from appliance.cli.console import print_error
from appliance.cli.interrupts import keeping_interrupts
from appliance.errors import ApplianceError, Interrupted, Usage

if TYPE_CHECKING:
    from typer._click import Command, Context

#: Where each command is found, or the table of those that have its name before theirs.
_COMMANDS: Final = {
    "lock": "lock:lock",
    "build": "build:build",
    "sign": "sign:sign",
    "verify": "verify:verify",
    "inspect": "inspect:inspect",
    "install": "install:install",
    "hardware": "hardware:hardware",
    "frames": "frames:frames",
    "audit": "audit:audit",
    "status": "status:status",
    "history": "history:history",
    "rollback": "rollback:rollback",
    "disk": "disk:disk_app",
    "media": "media:media_app",
    "patch": "patch:patch_app",
    "plan": "plan:plan_app",
    "store": "store:store_app",
    "trust": "trust:trust_app",
    "export": "export:export_app",
    "lab": "lab:lab_app",
}


class _Program(TyperGroup):
    """The table of commands; of Ctrl-C Typer would make an exit code that says nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": {name: TyperCommand(name) for name in _COMMANDS}})

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The command itself; of what it does, ``commands`` knows nothing but the name."""
        return _made(cmd_name) if cmd_name in _COMMANDS else None

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


def _made(name: str) -> Command:
    """What Typer makes of a command, or of a table of commands."""
    module, _, attribute = _COMMANDS[name].partition(":")
    found = getattr(import_module(f"appliance.cli.{module}"), attribute)
    one = typer.Typer()
    if isinstance(found, typer.Typer):
        one.add_typer(found)
    else:
        one.command(name)(found)
    return typer.main.get_group(one).commands[name]


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
