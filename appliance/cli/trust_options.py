"""Options that several commands of ``appliance trust`` take, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutFolder = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder to write to; made if it is not there.")
]
RootFile = Annotated[
    Path | None,
    typer.Option("--root", "-r", metavar="ROOT", help="The root whose keys count; of root N+1 the root N."),
]
TranscriptFile = Annotated[
    Path | None, typer.Option("--transcript", metavar="FILE", help="Write down here what was done.")
]
TranscriptKey = Annotated[
    Path | None,
    typer.Option("--transcript-key", metavar="KEY", help="SSH key to sign the transcript's line with."),
]
Reason = Annotated[str, typer.Option("--reason", help="Why, for people: one line; it is signed too.")]
Node = Annotated[str, typer.Option("--node", help="The node's name in the inventory.")]
Journal = Annotated[
    str,
    typer.Option("--journal", metavar="ID", help="Its journal: `appliance trust node` prints both there."),
]
