"""``appliance disk escrow``: whether it is whole, and what is in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from appliance.cli.console import print_error, print_result
from appliance.cli.disk_keys import Identities, Shares  # noqa: TC001 - Typer reads them at run time
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.errors import PreflightFailed, Usage

escrow_app = typer.Typer(
    name="escrow", help="Keys of drives, where the drives are not.", no_args_is_help=True
)

What = Literal["passphrase", "admin-pin", "psid", "header"]
_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The escrow: a folder of records.")]
_Serial = Annotated[str, typer.Argument(metavar="SERIAL", help="The drive's serial number.")]
_Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="A new file for it, for you alone.")
]
_Generation = Annotated[
    int | None, typer.Option("--generation", min=1, help="Of which keys; the newest if left out.")
]


@escrow_app.callback()
def _escrow() -> None:
    """Keys of drives, where the drives are not."""


@escrow_app.command("check")
def check(
    folder: _Folder, *, identity: Identities = None, share: Shares = None, as_json: AsJson = False
) -> None:
    """Check that an escrow is whole; with keys, open every record, and show nothing of it.

    Without a key: every file is there, and has the digest that its record
    says. With keys: they open it, and what stands in the open is what was
    sealed.

    \b
    Examples:
      appliance disk escrow check /media/escrow
      appliance disk escrow check /media/escrow --identity safe.key

    \b
    Exit codes:
      0  whole, or opened                    2  a key file is no such thing
      4  a record is damaged or changed
      5  the keys at hand do not open a record, there is none, or the folder
         cannot be read
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.disk.escrow.checking import check_escrow, retired, without_header
    from appliance.disk.escrow.opening import read_openers

    given = bool(identity or share)
    checked = check_escrow(folder, read_openers(identity or [], share or []) if given else None)
    if not checked:
        raise PreflightFailed(f"the escrow {folder} holds no record", wanted="one of each drive, at least")
    lines = []
    for one in checked:
        if one.fault is not None:
            print_error(one.fault, as_json=False)
        if one.record is None:
            continue
        record = one.record
        who = ", ".join(record.recipients)
        needed = f"{record.threshold} of {who}" if record.threshold > 1 else f"each of {who}"
        lines.append(
            f"{one.outcome:8}{record.drive.serial}  {record.purpose} {record.generation}  {record.host}"
            f"  {record.created}  {needed}"
        )
    lines += [
        f"note:   {one.drive.serial} has no header beside its keys {one.generation}"
        for one in without_header(checked)
    ]
    lines += [
        f"note:   {one.drive.serial} was retired; its keys {one.generation} open nothing on it any more"
        for one in retired(folder, checked)
    ]
    lines.append(f"{folder}: {len(checked)} records")
    values = {"folder": str(folder), "records": [one.as_dict() for one in checked]}
    print_result("\n".join(lines), values, as_json=as_json)
    raise typer.Exit(max((one.fault.exit_code for one in checked if one.fault is not None), default=0))


@escrow_app.command("open")
def open_(
    folder: _Folder,
    serial: _Serial,
    what: Annotated[What, typer.Option("--what", help="Which of what is kept.")] = "passphrase",
    *,
    identity: Identities = None,
    share: Shares = None,
    generation: _Generation = None,
    out: _Out = None,
    show: Annotated[bool, typer.Option("--show", help="Print it on this terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have a drive's passphrase, PIN, PSID or LUKS header back.

    It is written to a new file that only you can read, or shown on a
    terminal; never into a pipe, which may end in a log. Try a PIN once: a
    drive counts, and locks its owner out.

    \b
    Examples:
      appliance disk escrow open /media/escrow S6CVNG0T1 --identity safe.key --show
      appliance disk escrow open /media/escrow S6CVNG0T1 --share ana.txt --share bo.txt --out passphrase
      appliance disk escrow open /media/escrow S6CVNG0T1 --what header --identity safe.key --out header.img

    \b
    Exit codes:
      2  there is no such record, or a file is no such thing
      4  the record is damaged or changed
      5  the keys at hand do not open it, or the folder cannot be read
    """  # noqa: D301 - as above
    from appliance.disk.escrow.checking import choose
    from appliance.disk.escrow.opening import read_openers
    from appliance.disk.escrow.sealing import open_sealed

    _refuse_destination(out, show, binary=what == "header")
    kept = choose(folder, serial, "header" if what == "header" else "keys", generation)
    opened = open_sealed(kept.record, kept.files, read_openers(identity or [], share or []))
    if what != "header" and what not in opened.secrets:
        raise Usage(
            f"{kept.record.stem} holds no {what}",
            found=f"{', '.join(sorted(opened.secrets))}; {kept.record.layers} encrypts the drive",
        )
    found = opened.header if what == "header" else opened.secrets[what]
    told = f"{what} of {serial}, generation {kept.record.generation}, {kept.record.host}"
    if out is None:
        typer.echo(f"{told}:", err=True)
        typer.echo(found.reveal().decode("ascii"))
        return
    _write(out, found.reveal())
    values = {"what": what, "record": kept.record.inner(), "out": str(out)}
    print_result(f"{told}: in {out}", values, as_json=as_json)


@escrow_app.command("share")
def share_(
    folder: _Folder,
    serial: _Serial,
    *,
    identity: Annotated[Path, typer.Option("--identity", metavar="FILE", help="The holder's key of age.")],
    purpose: Annotated[
        Literal["keys", "header"], typer.Option("--purpose", help="Of which record.")
    ] = "keys",
    generation: _Generation = None,
    out: _Out = None,
    show: Annotated[bool, typer.Option("--show", help="Print it on this terminal.")] = False,
) -> None:
    """Decrypt a holder's share, to be handed to whoever puts enough of them together.

    Stock age does the same: age -d -i KEY STEM.share-NAME.age

    \b
    Examples:
      appliance disk escrow share /media/escrow S6CVNG0T1 --identity ana.key --out ana.txt

    \b
    Exit codes:
      2  there is no such record             4  it is damaged or changed
      5  the key is no holder's, or nothing is split
    """  # noqa: D301 - as above
    from appliance.disk.escrow.checking import choose
    from appliance.disk.escrow.opening import read_openers
    from appliance.disk.escrow.sealing import share_of

    _refuse_destination(out, show, binary=False)
    kept = choose(folder, serial, purpose, generation)
    if kept.record.threshold == 1:
        raise Usage(
            "this record is not split", found="one recipient is enough", wanted="disk escrow open instead"
        )
    found = share_of(kept.record, kept.files, read_openers([identity], []).identities[0])
    if out is None:
        typer.echo(found.reveal().decode("ascii"))
        return
    _write(out, found.reveal() + b"\n")
    typer.echo(f"a share of {kept.record.stem}: in {out}")


def _refuse_destination(out: Path | None, show: bool, *, binary: bool) -> None:
    if (out is not None) == show:
        raise Usage("where shall it go?", wanted="--out FILE or --show, one of them")
    if show and binary:
        raise Usage("a header is no text", wanted="--out FILE")
    if show and not sys.stdout.isatty():
        raise Usage(
            "standard output is no terminal, and may end in a log", wanted="a terminal, or --out FILE"
        )


def _write(path: Path, data: bytes) -> None:
    """A new file for its owner alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as fault:
        raise Usage(f"{path} cannot be made", found=fault.strerror, wanted="a new file") from fault
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
