"""``appliance media join``: volumes, one after the other, become one plain folder."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_error, print_result, progress
from appliance.cli.media_options import Fingerprint, Role, Trust, root_of, taken_back
from appliance.cli.options import AsJson, RevokedFiles  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from appliance.bundle.media.collecting import Joined, Lacking


def join(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOLUME...", readable=False, help="Volumes, or the media they lie on, in any order."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The new folder.")],
    trust: Trust = None,
    fingerprint: Fingerprint = None,
    role: Role = "release",
    revoked: RevokedFiles = None,
    as_json: AsJson = False,
) -> None:
    """Copy volumes into one plain bundle folder, with as few ports as there are.

    Every file is compared with its signed digest while it is copied; the volumes
    are never changed. On a terminal the next volume is asked for until all are
    there; elsewhere all must be named at once. The folder gets its name when it
    is complete: until then the same command goes on where it stopped.

    \b
    Examples:
      appliance media join /mnt/usb --out /srv/demo --trust root.1.json
      appliance media join /mnt/a /mnt/b /mnt/c --out /srv/demo --json
      appliance media join /mnt/usb --out /srv/demo --trust root.1.json --revoked revoked.4.json

    \b
    Exit codes:
      2  the folder exists already
      4  a volume is missing, damaged, of another bundle, or not signed as the root wants
      5  the disk is full, or a medium was pulled
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.join import join_volumes

    somebody = sys.stdin.isatty() and sys.stderr.isatty() and not as_json

    def ask(lacking: Lacking) -> Path:
        return _ask(lacking, volumes[-1])

    joined = join_volumes(
        volumes,
        out,
        progress=progress(),
        root=root_of(trust, fingerprint),
        role=role,
        revocations=taken_back(revoked, trust),
        ask=ask if somebody else None,
    )
    print_result(_text(joined), _values(joined), as_json=as_json)


def _ask(lacking: Lacking, place: Path) -> Path:
    """Have the person at the terminal insert the next volume."""
    if lacking.problem is not None:
        print_error(lacking.problem, as_json=False)
    lines = [
        "",
        f"Still missing: {lacking.wanted}",
        f"Unmount the medium at {place}, insert the next one and mount it there.",
        "Then press Enter, or type where it is mounted.",
        "Ctrl-C ends here, and the same command goes on later.",
    ]
    typer.echo("\n".join(lines), err=True)
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return Path(line.strip()) if line.strip() else place


def _text(joined: Joined) -> str:
    from appliance.bundle.media.sizes import size_text
    from appliance.counting import counted

    if joined.signers:
        signed = f"signed by {', '.join(joined.signers)}: enough, by the root you trust"
    else:
        signed = "NOT JUDGED by any root: run `appliance verify` with --trust ROOT"
    kept = f", {size_text(joined.kept)} were there" if joined.kept else ""
    return "\n".join(
        [
            f"joined      {joined.folder}",
            f"bundle      {joined.product} {joined.version}, digest {joined.digest}",
            f"contents    {counted(joined.files, 'file')}, {size_text(joined.copied)} copied{kept}",
            signed,
        ]
    )


def _values(joined: Joined) -> dict[str, object]:
    return {
        "folder": str(joined.folder),
        "digest": joined.digest,
        "product": joined.product,
        "version": joined.version,
        "signers": list(joined.signers),
        "files": joined.files,
        "copied": joined.copied,
        "kept": joined.kept,
    }
