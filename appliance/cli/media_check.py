"""``appliance media check``: every byte of some volumes or all, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.media.checked import CheckedVolume, MediaCheck

#: Damaged files, and names that do not belong there, that are shown of each volume; --json has all.
_SHOWN: Final = 20
_ROWS_SHOWN: Final = 8


def check(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOLUME...", help="Volumes, or the media they lie on: one, some or all, in any order."
        ),
    ],
    *,
    trust: Annotated[
        Path | None, typer.Option("--trust", "-t", help="Judge the signatures by this root first.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option("--fingerprint", help="The root's SHA-256; must match.")
    ] = None,
    role: Annotated[str, typer.Option("--role", help="The role that must have signed.")] = "release",
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=999, help="Media read at a time; all if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check what volumes hold: every byte, from the medium itself. Changes nothing.

    Says which files are damaged and in which blocks of 4 MiB, which volumes are
    not here and what they hold, and what to do next. A bad sector does not end
    the check. Volumes that are not given are no fault: each can be checked alone.

    \b
    Examples:
      appliance media check /media/usb --trust root.1.json
      appliance media check /media/a /media/b /media/c --trust root.1.json --json

    \b
    Exit codes:
      0  all that was given is right
      4  something given is damaged, or not of the bundle, or not signed as the root wants
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.check import check_media
    from appliance.bundle.roots import load_root
    from appliance.errors import DigestMismatch, Usage

    if fingerprint is not None and trust is None:
        raise Usage("--fingerprint needs the root it belongs to", wanted="--trust ROOT")
    root = load_root(trust, fingerprint) if trust else None
    found = check_media(volumes, root=root, progress=progress(), role=role, workers=workers)
    print_result("\n".join(_lines(found)), _values(found), as_json=as_json)
    if not found.sound:
        raise typer.Exit(DigestMismatch.exit_code)


def _lines(found: MediaCheck) -> Iterator[str]:
    yield f"{found.product} {found.version}, digest {found.digest}"
    if found.signers:
        yield f"signed by {', '.join(found.signers)}: enough, by the root you trust"
    else:
        yield "NOT JUDGED by any root: digests only"
    for volume in found.volumes:
        yield ""
        yield from _volume_lines(volume)
    yield ""
    for number, paths in found.absent.items():
        if found.layout and number is not None:
            yield f"not here    {found.layout.describe([number])}"
        else:
            yield f"not here    {len(paths)} files, the first is {paths[0]}"
    if found.parity:
        states = list(found.parity.values())
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        yield f"parity      {len(states)} sets: {counts}"
    yield from (f"note        {note}" for note in found.notes)
    yield from (f"do          {step}" for step in found.advice())


def _volume_lines(volume: CheckedVolume) -> Iterator[str]:
    from appliance.bundle.media.sizes import size_text

    state = "right" if volume.sound else "NOT WRITTEN TO ITS END" if volume.unfinished else "WRONG"
    yield f"{volume.name}: {state}: {volume.files} files, {size_text(volume.size)}"
    for damage in volume.damaged[:_SHOWN]:
        yield f"  damaged   {damage.path}: {damage.problem}"
        yield from (f"              {row}" for row in damage.bad[:_ROWS_SHOWN])
        if len(damage.bad) > _ROWS_SHOWN:
            yield f"              … and {len(damage.bad) - _ROWS_SHOWN} more rows of blocks"
    if len(volume.damaged) > _SHOWN:
        yield f"  damaged   … and {len(volume.damaged) - _SHOWN} more files; --json names them all"
    yield from (f"  strange   {ascii(name)[1:-1]}" for name in volume.strange[:_SHOWN])
    if len(volume.strange) > _SHOWN:
        yield f"  strange   … and {len(volume.strange) - _SHOWN} more"


def _values(found: MediaCheck) -> dict[str, object]:
    return {
        "sound": found.sound,
        "complete": found.complete,
        "digest": found.digest,
        "product": found.product,
        "version": found.version,
        "holders": list(found.holders),
        "signers": list(found.signers),
        "volumes": [_volume_values(volume) for volume in found.volumes],
        "absent": [{"number": number, "files": list(paths)} for number, paths in found.absent.items()],
        "parity": dict(found.parity),
        "notes": list(found.notes),
        "next": found.advice(),
    }


def _volume_values(volume: CheckedVolume) -> dict[str, object]:
    return {
        "folder": str(volume.folder),
        "number": volume.number,
        "sound": volume.sound,
        "unfinished": volume.unfinished,
        "files": volume.files,
        "bytes": volume.size,
        "damaged": [
            {
                "path": damage.path,
                "problem": damage.problem,
                "blocks": [
                    {
                        "first": row.first,
                        "last": row.last,
                        "offset": row.offset,
                        "readable": row.readable,
                    }
                    for row in damage.bad
                ],
            }
            for damage in volume.damaged
        ],
        "strange": list(volume.strange),
    }
