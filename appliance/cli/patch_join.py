"""``appliance patch join``: the bundle that a patch makes, for whoever wants to see it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, RevokedFiles  # noqa: TC001 - Typer reads them at run time


def join(
    *,
    base: Annotated[
        list[Path], typer.Option("--base", metavar="DIR", help="The bundle it starts from (each volume).")
    ],
    patch: Annotated[list[Path], typer.Option("--patch", metavar="DIR", help="The patch (each volume).")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The new folder.")],
    trust: Annotated[Path, typer.Option("--trust", "-t", help="The root file you trust.")],
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The root's SHA-256; must match.")
    ] = None,
    revoked: RevokedFiles = None,
    as_json: AsJson = False,
) -> None:
    """Make the bundle that comes of a base and a patch: complete, or none.

    The patch is verified (role patch) and the base's signatures are judged
    (role release) first; then it is asked whether both belong together and
    nothing is lacking. Every file is compared with the list whose digest the
    patch's holders signed. A bundle that was taken back is not made. Bytes
    that are the same share their place on disk where the file system can do
    that.

    \b
    Examples:
      appliance patch join --base demo-1 --patch demo-1-to-2 --out demo-2 --trust root.1.json
      appliance patch join --base demo-1 --patch p -o demo-2 -t root.1.json --revoked revoked.4.json

    \b
    Exit codes:
      2  the folder exists already, or has no folder to lie in
      4  patch or base must not be believed, or a file of the base is damaged
      5  another base, one that lacks something, or no room; nothing was written
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.documents import read_document
    from appliance.bundle.patch.joining import join_patch
    from appliance.bundle.roots import load_root

    joined = join_patch(
        base,
        patch,
        out,
        load_root(trust, fingerprint),
        progress=progress(),
        revocations=[read_document(path) for path in revoked or []],
    )
    signed = (
        f"signed as release by {', '.join(joined.signers)}"
        if joined.release
        else ("vouched for by the patch alone: its bundle brings no release signatures that are enough")
    )
    lines = [
        f"joined       {joined.folder}",
        f"version      {joined.version}",
        f"digest       {joined.digest}",
        f"files        {joined.kept:,} the base's, {joined.made:,} made, {joined.carried:,} of the patch",
        f"signatures   {signed}",
    ]
    values = {
        "folder": str(joined.folder),
        "version": joined.version,
        "digest": joined.digest,
        "kept": joined.kept,
        "made": joined.made,
        "carried": joined.carried,
        "signers": list(joined.signers),
        "release": joined.release,
    }
    print_result("\n".join(lines), values, as_json=as_json)
