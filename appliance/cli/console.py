"""Printing: results on stdout as text or one JSON object, everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.errors import ApplianceError
    from appliance.progress import Progress


def print_result(text: str, values: Mapping[str, object], *, as_json: bool) -> None:
    """Print a command's result: ``values`` as one JSON object, or ``text`` for people."""
    if as_json:
        typer.echo(json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False))
    else:
        typer.echo(text)


def print_error(error: ApplianceError, *, as_json: bool) -> None:
    """Print an error for people on stderr and, with ``as_json``, as the JSON result on stdout."""
    lines = [f"error: {error.message}"]
    if error.where:
        lines[0] = f"{error.where}: {lines[0]}"
    lines += [
        f"  {label}: {value}"
        for label, value in (("found", error.found), ("wanted", error.wanted), ("do", error.hint))
        if value
    ]
    typer.echo("\n".join(lines), err=True)
    if as_json:
        typer.echo(json.dumps(error.as_dict(), indent=2, sort_keys=True, ensure_ascii=False))


def progress() -> Progress:
    """A progress display on stderr: bars on a terminal, plain lines elsewhere."""
    from appliance.cli.progress import Bars, Lines

    return Bars() if sys.stderr.isatty() else Lines()
