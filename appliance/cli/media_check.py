"""``appliance media check``: every byte of some volumes or all, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_error, print_result, progress
from appliance.cli.media_options import Fingerprint, Role, Trust, root_of, taken_back
from appliance.cli.options import AsJson, RevokedFiles  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.media.checked import CheckedRecovery, CheckedVolume, DamagedFile, MediaCheck

#: Damaged files, and names that do not belong there, that are shown of each volume; --json has all.
_SHOWN: Final = 20
_ROWS_SHOWN: Final = 8


def check(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOLUME...",
            readable=False,
            help="Volumes, or the media they lie on: one, some or all, in any order.",
        ),
    ],
    *,
    trust: Trust = None,
    fingerprint: Fingerprint = None,
    role: Role = "release",
    revoked: RevokedFiles = None,
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
      appliance media check /media/usb --trust root.1.json --revoked revoked.4.json

    \b
    Exit codes:
      0  all that was given is right
      4  something given is damaged, or not of the bundle, or not signed as the root wants
      5  a medium was pulled out meanwhile; the others are checked to their end
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.check import check_media
    from appliance.errors import DigestMismatch

    found = check_media(
        volumes,
        root=root_of(trust, fingerprint),
        progress=progress(),
        role=role,
        revocations=taken_back(revoked, trust),
        workers=workers,
    )
    print_result("\n".join(_lines(found)), _values(found), as_json=as_json)
    if failure := found.failure:
        print_error(failure, as_json=False)  # the result says it too
        raise typer.Exit(failure.exit_code)
    if not found.sound:
        raise typer.Exit(DigestMismatch.exit_code)


def _lines(found: MediaCheck) -> Iterator[str]:
    from appliance.counting import counted

    yield f"{found.product} {found.version}, digest {found.digest}"
    if found.signers:
        yield f"signed by {', '.join(found.signers)}: enough, by the root you trust"
    else:
        yield "NOT JUDGED by any root: digests only"
    for volume in found.volumes:
        yield ""
        yield from _volume_lines(volume)
    for recovery in found.recovery:
        yield ""
        yield from _recovery_lines(recovery)
    yield ""
    for number, paths in found.absent.items():
        if found.layout and number is not None:
            yield f"not here    {found.layout.describe([number])}"
        else:
            yield f"not here    {counted(len(paths), 'file')}, the first is {paths[0]}"
    if found.parity:
        states = list(found.parity.values())
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        yield f"parity      {counted(len(states), 'set')}: {counts}"
    yield from (f"note        {note}" for note in found.notes)
    yield from (f"do          {step}" for step in found.advice())


def _volume_lines(volume: CheckedVolume) -> Iterator[str]:
    from appliance.bundle.media.sizes import size_text
    from appliance.counting import counted

    state = "NOT WRITTEN TO ITS END" if volume.unfinished and not volume.gone else _state(volume)
    yield f"{volume.name}: {state}: {counted(volume.files, 'file')}, {size_text(volume.size)}"
    yield from _wrong_lines(volume)


def _recovery_lines(recovery: CheckedRecovery) -> Iterator[str]:
    from appliance.bundle.media.sizes import size_text
    from appliance.counting import counted

    holds = f"{counted(recovery.stripes, 'stripe')}, {size_text(recovery.size)}"
    yield f"{recovery.name}: {_state(recovery)}: {holds}, for any of {recovery.volumes} volumes"
    yield "  checked   its packets by their own checksums, the files they cover by the signed list"
    yield "  not       whether they would give these files back: nobody signs that, and a repair judges it"
    yield from _wrong_lines(recovery)


def _state(medium: CheckedVolume | CheckedRecovery) -> str:
    if medium.gone:
        return "NOT READ TO ITS END"
    return "right" if medium.sound else "WRONG"


def _wrong_lines(volume: CheckedVolume | CheckedRecovery) -> Iterator[str]:
    from appliance.counting import counted

    if volume.gone:
        yield f"  gone      {volume.gone}: pulled out, or broken"
    for damage in volume.damaged[:_SHOWN]:
        yield f"  damaged   {damage.path}: {damage.problem}"
        yield from (f"              {row}" for row in damage.bad[:_ROWS_SHOWN])
        if len(damage.bad) > _ROWS_SHOWN:
            yield f"              … and {len(damage.bad) - _ROWS_SHOWN} more rows of blocks"
    if len(volume.damaged) > _SHOWN:
        more = counted(len(volume.damaged) - _SHOWN, "more file")
        yield f"  damaged   … and {more}; --json names them all"
    yield from (f"  strange   {ascii(name)[1:-1]}" for name in volume.strange[:_SHOWN])
    if len(volume.strange) > _SHOWN:
        yield f"  strange   … and {len(volume.strange) - _SHOWN} more"


def _values(found: MediaCheck) -> dict[str, object]:
    return {
        **(found.failure.as_dict() if found.failure else {}),
        "sound": found.sound,
        "complete": found.complete,
        "digest": found.digest,
        "product": found.product,
        "version": found.version,
        "holders": list(found.holders),
        "signers": list(found.signers),
        "volumes": [_volume_values(volume) for volume in found.volumes],
        "recovery": [_recovery_values(recovery) for recovery in found.recovery],
        "absent": [{"number": number, "files": list(paths)} for number, paths in found.absent.items()],
        "parity": dict(found.parity),
        "notes": list(found.notes),
        "copies": dict(found.copies),
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
        **_wrong_values(volume),
    }


def _recovery_values(recovery: CheckedRecovery) -> dict[str, object]:
    return {
        "folder": str(recovery.folder),
        "sound": recovery.sound,
        "volumes": recovery.volumes,
        "stripes": recovery.stripes,
        "bytes": recovery.size,
        **_wrong_values(recovery),
    }


def _wrong_values(medium: CheckedVolume | CheckedRecovery) -> dict[str, object]:
    return {
        "damaged": [_damage_values(damage) for damage in medium.damaged],
        "strange": list(medium.strange),
        "gone": medium.gone,
    }


def _damage_values(damage: DamagedFile) -> dict[str, object]:
    blocks = [
        {"first": row.first, "last": row.last, "offset": row.offset, "readable": row.readable}
        for row in damage.bad
    ]
    return {"path": damage.path, "problem": damage.problem, "blocks": blocks}
