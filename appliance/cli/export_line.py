"""``appliance export line``: the walls around the network card that a node exports on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.export.line.settings import Line

#: Where the role log_export writes what the line is.
_FILE: Final = Path("/etc/appliance/export-line.json")

line_app = typer.Typer(
    name="line",
    help="The walls around the card that logs leave on: the units of the role log_export run these.",
    no_args_is_help=True,
)
_File = Annotated[
    Path, typer.Option("--line", metavar="FILE", help="What the line is; the role log_export writes it.")
]


@line_app.command("up")
def up(file: _File = _FILE, as_json: AsJson = False) -> None:
    """Put the walls up around the card, and then switch its link on.

    The card moves into the network namespace appliance-export. Its link goes
    on when nftables and XDP drop whatever comes in, and not otherwise.

    \b
    Examples:
      appliance export line up
      appliance export line up --line line.json --json

    \b
    Exit codes:
      2  there is no such file
      3  the file says no line
      5  the card is not there, or a wall cannot be put up: the link is off
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.export.line.raising import raise_line

    raised = raise_line(_line(file))
    print_result(f"{raised['name']} is up behind its walls", raised, as_json=as_json)


@line_app.command("down")
def down(as_json: AsJson = False) -> None:
    """Switch the link off, take the walls down and give the card back.

    \b
    Examples:
      appliance export line down
    """  # noqa: D301 - as above
    from appliance.export.line.raising import lower_line

    was = lower_line()
    print_result("down" if was else "nothing was up", {"was_up": was}, as_json=as_json)


@line_app.command("show")
def show(file: _File = _FILE, as_json: AsJson = False) -> None:
    """Show what stands around the card, as the kernel tells it; exit code 5 if anything is amiss.

    \b
    Examples:
      appliance export line show
      appliance export line show --json
    """  # noqa: D301 - as above
    from appliance.errors import ExportLineDown
    from appliance.export.line.raising import read_raised
    from appliance.export.line.showing import shown, shown_text

    found = shown(_line(file), read_raised())
    print_result(shown_text(found), found, as_json=as_json)
    if found["faults"]:
        raise typer.Exit(ExportLineDown.exit_code)


@line_app.command("watch")
def watch(
    file: _File = _FILE,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="Written anew every two seconds, in one step.")
    ] = Path("/run/appliance-export-line/watched.json"),
) -> None:
    """Look at the walls every two seconds and write down what stands, for the sender.

    Where neither nftables nor XDP drops what comes in, the link is switched
    off. Ends with Ctrl-C or SIGTERM.

    \b
    Examples:
      appliance export line watch
    """  # noqa: D301 - as above
    from appliance.cli.export_stopping import stopping
    from appliance.export.line.raising import read_raised
    from appliance.export.line.watching import watch_line

    line, raised = _line(file), read_raised()
    with stopping() as stop:
        watch_line(line, raised, to, stop)


def _line(file: Path) -> Line:
    from appliance.errors import Usage
    from appliance.export.line.settings import read_line

    if not file.is_file():
        raise Usage(
            f"there is no file {file}", hint="the role log_export writes it; set `export` in the inventory"
        )
    return read_line(file.read_bytes(), str(file))
