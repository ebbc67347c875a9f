"""``appliance media repair`` and ``media parity``: mending volumes, and making a recovery volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.media_options import Fingerprint, Role, Trust, root_of, taken_back
from appliance.cli.options import AsJson, RevokedFiles  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.bundle.parity.repaired import Repaired

_SHOWN: Final = 20

_Work = Annotated[
    Path | None,
    typer.Option("--work", metavar="DIR", help="Where to compute; ~/.cache/appliance if left out."),
]


def repair(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOLUME|BUNDLE...",
            readable=False,
            help="A bundle, copies of it, or its volumes, or the media these lie on; recovery volumes.",
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Put mended files here; change nothing that is given."),
    ] = None,
    trust: Trust = None,
    fingerprint: Fingerprint = None,
    role: Role = "release",
    revoked: RevokedFiles = None,
    work: _Work = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Verify the whole bundle afterwards; needs --trust.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Mend damaged and missing files, from parity and from every sound copy given.

    Every byte is read from the medium and compared with the signed list. A file
    is replaced only by one that has its signed digest, and only when that has been
    read back from the medium. Interrupted, nothing is lost: run the command again.

    \b
    Examples:
      appliance media repair /media/usb --trust root.1.json
      appliance media repair /media/a /media/b --trust root.1.json --work /var/tmp
      appliance media repair /media/usb --trust root.1.json --revoked revoked.4.json --verify
      appliance media repair /media/dvd --out /srv/mended --trust root.1.json
      appliance media repair /media/a /media/c /media/recovery --out /media/new --trust root.1.json

    \b
    Exit codes:
      0  everything that was given is right now; with --out, what was not lies mended there
      4  the damage is too great, or the signatures are not to be believed, and nothing was
         changed; or everything else is right, and something is LEFT
      5  write-protected, pulled out, too little room, no par2, or another repair is at work
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.parity.repair import repair_bundle
    from appliance.errors import DamageTooGreat, Usage

    if verify and (trust is None or out is not None):
        raise Usage(
            "--verify needs a root to verify by, and the bundle in its place",
            wanted="--trust ROOT and no --out",
        )
    revocations = taken_back(revoked, trust)
    result = repair_bundle(
        folders,
        root=root_of(trust, fingerprint),
        out=out,
        work=work or _cache(),
        progress=progress(),
        role=role,
        revocations=revocations,
    )
    verified = False
    if verify and trust is not None and result.complete:
        from appliance.bundle.verify import verify_bundle

        verify_bundle(
            result.folders,
            root_of(trust, fingerprint) or b"",
            progress=progress(),
            role=role,
            revocations=revocations,
        )
        verified = True
    print_result(
        "\n".join(_lines(result, verified=verified)), _values(result, verified=verified), as_json=as_json
    )
    if result.left:
        raise typer.Exit(DamageTooGreat.exit_code)


def parity(
    volumes: Annotated[
        list[Path], typer.Argument(metavar="VOLUME...", help="All volumes of a bundle, in any order.")
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The medium to write the recovery volume to.")
    ],
    trust: Trust = None,
    fingerprint: Fingerprint = None,
    role: Role = "release",
    revoked: RevokedFiles = None,
    work: _Work = None,
    as_json: AsJson = False,
) -> None:
    """Make a recovery volume: with it, any one volume that is lost can be made again.

    It is about as large as the largest volume and is not signed: what it gives
    back is judged by the signed list. All volumes are checked first.

    \b
    Examples:
      appliance media parity /media/a /media/b /media/c --out /media/d --trust root.1.json

    \b
    Exit codes:
      0  written
      4  a volume is missing or damaged, or not signed as the root wants
      5  too little room, a volume pulled out, or no par2
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.sizes import size_text
    from appliance.bundle.parity.whole import make_recovery_volume
    from appliance.counting import counted

    made = make_recovery_volume(
        volumes,
        out,
        root=root_of(trust, fingerprint),
        work=work or _cache(),
        progress=progress(),
        role=role,
        revocations=taken_back(revoked, trust),
    )
    text = (
        f"{made.folder}: recovery for any one of {counted(made.volumes, 'volume')}, "
        f"{size_text(made.size)}\n"
        "do          keep it apart from the volumes; media repair takes it like a volume"
    )
    values = {
        "folder": str(made.folder),
        "digest": made.digest,
        "volumes": made.volumes,
        "stripes": made.stripes,
        "bytes": made.size,
    }
    print_result(text, values, as_json=as_json)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance"


def _lines(result: Repaired, *, verified: bool) -> Iterator[str]:
    from appliance.bundle.media.layout import listed_numbers
    from appliance.counting import counted

    yield f"{result.product} {result.version}, digest {result.digest}"
    if result.signers:
        yield f"signed by   {', '.join(result.signers)}: enough, by the root you trust"
    else:
        yield "NOT JUDGED by any root: signatures were checked by the keys they name themselves"
    yield f"read        {counted(result.checked, 'file')}, {result.wrong:,} of them damaged or missing"
    if result.restored is None:
        yield from _mended_lines(result)
    if result.kept:
        yield f"  kept      {counted(len(result.kept), 'file')} mended before, in {result.out}"
    yield from (f"  LEFT      {each.path}: {each.do}" for each in result.left)
    yield from (f"note        {note}" for note in result.notes)
    if result.restored is not None:
        volume = f"volume {result.restored} of {result.volumes}"
        yield f"made again  {volume}: {result.out}, {counted(len(result.mended), 'file')}"
    if result.absent:
        yield f"not here    {listed_numbers(result.absent, result.volumes)}"
    if verified:
        yield "verified    every byte of the whole bundle"
    else:
        yield from (f"do          {step}" for step in result.advice())


def _mended_lines(result: Repaired) -> Iterator[str]:
    for each in result.mended[:_SHOWN]:
        yield f"  mended    {each.folder / each.path} (was {each.state})"
    if len(result.mended) > _SHOWN:
        yield f"  mended    … and {len(result.mended) - _SHOWN} more; --json names them all"


def _values(result: Repaired, *, verified: bool) -> dict[str, object]:
    return {
        "digest": result.digest,
        "product": result.product,
        "version": result.version,
        "signers": list(result.signers),
        "folders": [str(folder) for folder in result.folders],
        "out": None if result.out is None else str(result.out),
        "checked": result.checked,
        "wrong": result.wrong,
        "mended": [
            {"folder": str(each.folder), "path": each.path, "was": each.state} for each in result.mended
        ],
        "kept": [
            {"folder": str(each.folder), "path": each.path, "was": each.state} for each in result.kept
        ],
        "left": [each.path for each in result.left],
        "absent": list(result.absent),
        "restored": result.restored,
        "verified": verified,
        "notes": list(result.notes),
        "next": [] if verified else result.advice(),
    }
