"""Options that several commands take, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
BundleFolders = Annotated[
    list[Path],
    typer.Argument(
        metavar="DIR...",
        readable=False,  # whoever opens it says why it cannot be read
        help="The bundle's folder; of several media each volume, in any order.",
    ),
]
StoreFolder = Annotated[
    Path | None, typer.Option("--store", metavar="DIR", help="The content store (APPLIANCE_STORE).")
]
Mirror = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", help="Debian mirror, in place of the station's apt sources."),
]
InventoryFolder = Annotated[
    Path, typer.Option("--inventory", "-i", help="The inventory's folder, or its file.")
]
OnlyNodes = Annotated[
    list[str] | None, typer.Option("--limit", "-l", metavar="NODE", help="Only this node; repeatable.")
]
RecordsFolder = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Where records are kept.", show_default="XDG state folder"),
]
RevokedFiles = Annotated[
    list[Path] | None,
    typer.Option("--revoked", metavar="revoked.N.json", help="What was taken back, signed."),
]
