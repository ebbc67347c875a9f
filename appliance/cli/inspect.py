"""``appliance inspect``: what a bundle holds, where it comes from, what changed since another."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, BundleFolders  # noqa: TC001 - Typer reads them at run time


def inspect(
    folders: BundleFolders,
    *,
    trust: Annotated[
        Path | None, typer.Option("--trust", "-t", help="Verify the bundle by this root first.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The root's SHA-256; must match.")
    ] = None,
    role: Annotated[
        str, typer.Option("--role", help="The role that must have signed, with --trust.")
    ] = "release",
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="DIR",
            help="Another bundle: show what changed since. Once for each volume of it.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write one HTML page, for review.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the HTML page if it exists.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Also list every file with its origin.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a bundle is, who signed it, and a table of its packages.

    The table has version, size, licence and origin, and the names from the
    SBOM (purl, CPE). Licences are shown by one name each; what was stated
    word for word, --files and --json show.

    Verifies nothing unless --trust is given, and says so. Of the bundle
    named by --against only the signatures are checked: what it held is
    compared, and its payload is not read.

    \b
    Examples:
      appliance inspect /media/usb/demo
      appliance inspect /media/usb/demo --files
      appliance inspect /media/a /media/b
      appliance inspect /media/usb/demo --trust root.1.json --html review.html
      appliance inspect demo-1-to-2 --trust root.1.json --role patch
      appliance inspect out/demo-2 --against out/demo-1 --trust root.1.json --json

    \b
    Exit codes: 0 shown, 2 usage, 4 malformed, or does not verify by --trust
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.comparison import compare
    from appliance.bundle.inspection import inspect_bundle
    from appliance.bundle.roots import load_root
    from appliance.cli.comparison_text import comparison_lines, comparison_values
    from appliance.cli.inspection_text import inspection_lines
    from appliance.cli.inspection_values import inspection_values
    from appliance.errors import Usage

    if fingerprint is not None and trust is None:
        raise Usage("--fingerprint needs the root it belongs to", wanted="--trust ROOT")
    root = load_root(trust, fingerprint) if trust is not None else None
    if html is not None:
        from appliance.bundle.inspection_page import check_place

        check_place(html, [*folders, *(against or ())], replace=force)
    seen = inspect_bundle(folders, trusted=root, progress=progress(), role=role)
    lines, values = inspection_lines(seen, files=files), inspection_values(seen, files=files)
    changes = None
    if against:
        changes = compare(
            inspect_bundle(against, trusted=root, progress=progress(), every_byte=False), seen
        )
        lines += ["", *comparison_lines(changes)]
        values["against"] = comparison_values(changes)
    if html is not None:
        from appliance.bundle.inspection_page import write_page

        write_page(html, seen, changes, files=files)
        values["html"] = str(html)
    print_result("\n".join(lines), values, as_json=as_json)
