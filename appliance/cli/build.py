"""``appliance build``: fetch what a lock names and lay out the bundle."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, Mirror, StoreFolder  # noqa: TC001 - Typer reads it at run time


def build(
    definition: Annotated[Path, typer.Argument(metavar="DEFINITION", help="The bundle definition (YAML).")],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The bundle; a folder that does not exist.")
    ],
    lock: Annotated[
        Path | None, typer.Option("--lock", metavar="FILE", help="The lock; beside the definition.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="ROOT.json", help="The root this bundle is built for.")
    ] = None,
    revoked: Annotated[
        Path | None,
        typer.Option("--revoked", metavar="revoked.N.json", help="What was taken back; carried along."),
    ] = None,
    store: StoreFolder = None,
    mirror: Mirror = None,
    as_json: AsJson = False,
) -> None:
    """Fetch exactly what the lock names and write a complete bundle, or none.

    What the content store holds is not fetched again, and an interrupted
    fetch goes on where it stopped. The same lock gives the same bytes.
    With the root travel those before it and their signatures, as they
    lie beside it: nodes that know an older one follow.

    \b
    Examples:
      appliance build bundles/demo.yaml --out /srv/demo-1
      appliance build bundles/demo.yaml --out /srv/demo-1 --root trust/root.1.json

    \b
    Exit codes:
      2  the folder exists already
      3  the lock does not belong to the definition, or names what is gone
      4  a digest or the archive's signature does not verify
      5  the disk is full, or too small
      6  a source does not answer, or denies access
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.sizes import size_text
    from appliance.sources.building import build_bundle, read_lock, read_root
    from appliance.sources.definition_files import default_lock_path, open_definition
    from appliance.sources.station import open_station

    read = open_definition(definition)
    locked = read_lock(lock or default_lock_path(definition), read)
    root_bytes = read_root(root) if root else None
    station = open_station(definition, store=store, mirror=mirror, progress=progress())
    documents = _carried(root, revoked) if root else {}
    built = build_bundle(locked, out, root_bytes, station, documents)
    values = {
        "bundle": str(built.folder),
        "digest": built.digest,
        "product": locked.product,
        "version": locked.version,
        "size": locked.size,
    }
    lines = [
        f"{built.folder}: {locked.product} {locked.version}, {size_text(locked.size)}",
        f"sha256 {built.digest}",
    ]
    print_result("\n".join(lines), values, as_json=as_json)


def _carried(root: Path, revoked: Path | None) -> dict[str, bytes]:
    """What travels beside a root; to judge it takes what no other build needs."""
    from appliance.bundle.carried import carried_documents

    return carried_documents(root, revoked)
