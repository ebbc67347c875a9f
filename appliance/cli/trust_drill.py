"""``appliance trust drill``: rehearse a ceremony, and what follows a lost key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def drill(
    *,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Leave all files in this new folder, to look at them."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rehearse the whole ceremony in a temporary folder, with real keys of no further use.

    Founds the usual shape, releases, loses a key, rotates, revokes, follows; and tries what must
    not work each time. Touches nothing of yours, and takes seconds.

    \b
    Examples:
      appliance trust drill
      appliance trust drill --keep rehearsal --json
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import tempfile

    from appliance.bundle.ceremony.drill import Drill
    from appliance.errors import Usage

    if keep is not None and keep.exists():
        raise Usage(f"{keep} exists already", wanted="a new folder")
    with tempfile.TemporaryDirectory(prefix="appliance-drill-") as temporary:
        steps = list(Drill(keep or Path(temporary) / "drill").steps())
    lines = [
        line
        for step in steps
        for line in (f"{step.name:<14} {step.did}", f"{'':<14} proves: {step.proves}")
    ]
    values = {
        "steps": [{"name": step.name, "did": step.did, "proves": step.proves} for step in steps],
        "passed": True,
        "kept": str(keep) if keep else None,
    }
    print_result("\n".join([*lines, f"{len(steps)} steps, all as they must be"]), values, as_json=as_json)
