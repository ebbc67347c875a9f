"""Printing: results on stdout as text or one JSON object, everything else on stderr."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Final

import typer

from appliance.printable import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.errors import ApplianceError
    from appliance.progress import Progress

#: Of JSON's text, all but plain ASCII and its own line feeds.
_UNUSUAL: Final = re.compile(r"[^ -~\n]")


def print_result(text: str, values: Mapping[str, object], *, as_json: bool) -> None:
    """Print a command's result: ``values`` as one JSON object, or ``text`` for people."""
    typer.echo(as_json_text(values) if as_json else printable(text, lines=True))


def as_json_text(values: Mapping[str, object]) -> str:
    """One JSON object for programs that is also safe to look at.

    Letters stay as they are; what a terminal would act on is written as JSON allows it for any character.
    """
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    return _UNUSUAL.sub(lambda each: each[0] if each[0].isprintable() else json.dumps(each[0])[1:-1], text)


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
    typer.echo(printable("\n".join(lines), lines=True), err=True)
    if as_json:
        typer.echo(as_json_text(error.as_dict()))


def progress() -> Progress:
    """A progress display on stderr: bars on a terminal, plain lines elsewhere."""
    from appliance.cli.progress import Bars, Lines

    return Bars() if sys.stderr.isatty() else Lines()
