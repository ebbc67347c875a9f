"""``appliance export status``: how it goes, on either side."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.cli.console import as_json_text, print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Callable


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sender's folder, or a receiver's.")],
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a running sender or receiver said last, at most two seconds ago.

    Rates are of the last ten seconds. Loss is of the line, before repair, in
    blocks that became whole. Days left: how long the spool takes what comes
    at this rate if nothing can leave any more. With --watch and --json, one
    line of JSON each time.

    \b
    Examples:
      appliance export status /var/lib/appliance/export
      appliance export status DIR --watch
      appliance export status DIR --json

    \b
    Exit codes:
      2  nothing has run there yet
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.export_status_text import status_text
    from appliance.export.places import read_status

    def look() -> dict[str, Any]:
        return with_ranges(read_status(folder))

    values = look()
    if not watch:
        print_result(status_text(values), values, as_json=as_json)
    elif as_json:
        _again(look, lambda found: typer.echo(" ".join(as_json_text(found).split())))
    else:
        _live(look, status_text)


def _again(look: Callable[[], dict[str, Any]], show: Callable[[dict[str, Any]], None]) -> None:
    """Show it every two seconds, until somebody wants an end."""
    from appliance.cli.export_stopping import stopping
    from appliance.export.moments import STATUS_EVERY

    with stopping() as stop:
        while not stop.is_set():
            show(look())
            stop.wait(STATUS_EVERY)


def _live(look: Callable[[], dict[str, Any]], text: Callable[[dict[str, Any]], str]) -> None:
    """In place on a terminal; elsewhere one below the other."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from appliance.printable import printable

    console = Console()
    if not console.is_terminal:
        _again(look, lambda found: typer.echo(printable(text(found), lines=True) + "\n"))
        return
    with Live(console=console, auto_refresh=False, screen=True) as live:
        _again(look, lambda found: live.update(Text(printable(text(found), lines=True)), refresh=True))


def with_ranges(values: dict[str, Any]) -> dict[str, Any]:
    """The status with each gap as it is typed at the node."""
    from appliance.export.ranges import range_text

    for node in values.get("nodes", []):
        for gap in node["gaps"]:
            first, last = gap["blocks"]
            gap["range"] = range_text(first, last, bytes.fromhex(node["node"]))
    return values
