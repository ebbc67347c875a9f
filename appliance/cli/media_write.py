"""``appliance media write``: fill media with a bundle, and prove what lies there."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from appliance.cli.console import print_error, print_result, progress
from appliance.cli.media_options import Fingerprint, Role, Trust, root_of
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time

if TYPE_CHECKING:
    from appliance.bundle.media.device import Device
    from appliance.bundle.media.write import Wanted, WrittenMedia


#: Files that were wrong that are shown of each volume; --json has all.
_SHOWN: Final = 20


def write(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    targets: Annotated[
        list[Path],
        typer.Argument(metavar="TARGET...", readable=False, help="Where the media are mounted."),
    ],
    *,
    trust: Trust = None,
    fingerprint: Fingerprint = None,
    role: Role = "release",
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="The most to use of a medium; the last repeats. Targets may be folders then.",
        ),
    ] = None,
    only: Annotated[
        list[int] | None, typer.Option("--only", help="Write only this volume; may be repeated.")
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option("--like", metavar="VOLUME", help="Divide as this volume says."),
    ] = None,
    luks: Annotated[
        bool, typer.Option("--luks", help="Targets are devices: encrypt them for the road.")
    ] = False,
    erase: Annotated[
        list[Path] | None,
        typer.Option("--erase", metavar="DEVICE", help="Format this target although it is not empty."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="The passphrase, in a file only you can read.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a bundle onto mounted media, one volume on each, and read all of it back.

    The bundle is read once and never changed; each file is compared with its
    signed digest while it is copied, and again as it lies on the medium. A
    volume gets its label last: one without is incomplete, and the same
    command goes on with it, by blocks of 4 MiB.

    With fewer targets than volumes, a terminal is asked for the next medium.

    With --luks, targets are block devices. Empty ones are formatted (LUKS2,
    ext4 inside) after you typed their serial numbers; all are closed again.

    \b
    Examples:
      appliance media write out/demo /mnt/usb --trust root.1.json
      appliance media write out/demo /mnt/a /mnt/b /mnt/c
      appliance media write out/demo /mnt/new --like /mnt/a --only 3    # one was lost
      appliance media write out/demo /dev/sdb --luks

    \b
    Exit codes:
      2  the arguments contradict each other
      4  the bundle is malformed, damaged, or not signed as the root wants
      5  a medium is unsuitable, occupied, full, pulled or missing
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.media.plan import raw_room
    from appliance.bundle.media.sizes import parse_size
    from appliance.bundle.media.write import Settings, write_media
    from appliance.errors import Usage

    if not luks and (erase or key_file):
        raise Usage("--erase and --key-file are for encrypted media", wanted="--luks")
    settings = Settings(
        progress=progress(),
        root=root_of(trust, fingerprint),
        role=role,
        sizes=[raw_room(text, parse_size(text)).size for text in size or ()],
        like=like,
        only=only or (),
    )
    if luks:
        from appliance.bundle.media.luks import read_key_file, write_encrypted

        passphrase = read_key_file(key_file) if key_file else _passphrase()
        written = write_encrypted(
            bundle, targets, passphrase=passphrase, confirm=_confirm, erase=erase or (), **settings
        )
    else:
        settings["ask"] = _ask if _has_terminal() else None
        written = write_media(bundle, targets, **settings)
    print_result(_text(written), _values(written), as_json=as_json)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _passphrase() -> bytes:
    """Ask for a passphrase twice."""
    from getpass import getpass

    from appliance.errors import Usage

    if not _has_terminal():
        raise Usage("no terminal to ask for the passphrase on", wanted="--key-file FILE, or a terminal")
    first = getpass("Passphrase for these media: ")
    if getpass("The same once more: ") != first:
        raise Usage("the two passphrases differ", hint="nothing was changed; run the command again")
    return first.encode()


def _confirm(device: Device) -> str:
    """Have a person show that a device is the one to be erased."""
    from appliance.bundle.media.sizes import size_text
    from appliance.errors import Usage

    if not _has_terminal():
        raise Usage(
            f"{device.path} would be erased, and nobody is there to confirm it", wanted="a terminal"
        )
    what = "serial number" if device.serial else "size in bytes"
    lines = [
        "",
        f"{device.path} will be erased: {device.model or 'no model'}, {size_text(device.size)}.",
        f"It holds: {', '.join(device.holds) or 'nothing that is known'}.",
        f"Read its {what} from its shell or from `lsblk --bytes --output +SERIAL`, and type it here:",
    ]
    typer.echo("\n".join(lines), err=True)
    return sys.stdin.readline()


def _ask(wanted: Wanted) -> None:
    """Have the person at the terminal insert the next medium."""
    from appliance.bundle.media.sizes import size_text

    if wanted.problem is not None:
        print_error(wanted.problem, as_json=False)
    lines = [
        "",
        f"Volume {wanted.number} of {wanted.count} comes next: {size_text(wanted.size)}.",
        f"Unmount the medium at {wanted.target} and take it out; mount the next one there.",
        f"Write on it: {wanted.inscription}",
        "Then press Enter. Ctrl-C ends here, and the same command goes on later.",
    ]
    typer.echo("\n".join(lines), err=True)
    if not sys.stdin.readline():
        raise KeyboardInterrupt


def _text(written: WrittenMedia) -> str:
    from appliance.bundle.media.layout import listed_numbers
    from appliance.bundle.media.sizes import size_text

    cargo = written.cargo
    lines = [f"{cargo.manifest.product} {cargo.manifest.version}, digest {cargo.digest}", _signed(written)]
    for volume in written.volumes:
        done = [f"{size_text(volume.written)} written and read back"] if volume.written else []
        done += [f"{size_text(volume.kept)} were there, read again and right"] if volume.kept else []
        lines.append(f"volume {volume.number} of {written.count}: {volume.folder}: {'; '.join(done)}")
        lines += [f"  mended   {path}: was there, and wrong" for path in volume.mended[:_SHOWN]]
        if len(volume.mended) > _SHOWN:
            lines.append(f"  mended   … and {len(volume.mended) - _SHOWN} more; --json names them all")
    lines.append("all of it was read from the media in this run, and is right")
    if others := set(range(1, written.count + 1)) - {volume.number for volume in written.volumes}:
        lines.append(f"neither written nor read: {listed_numbers(others, written.count)}")
    lines.append("unmount the media before you take them out")
    return "\n".join(lines)


def _signed(written: WrittenMedia) -> str:
    holders = ", ".join(written.cargo.holders)
    if not holders:
        return "NOT SIGNED: nobody can verify these media"
    if written.cargo.trusted:
        return f"signed by {holders}: enough, by the root you trust"
    return f"signed by {holders}: NOT JUDGED; give --trust ROOT to have it judged"


def _values(written: WrittenMedia) -> dict[str, object]:
    cargo = written.cargo
    return {
        "digest": cargo.digest,
        "product": cargo.manifest.product,
        "version": cargo.manifest.version,
        "signers": list(cargo.holders),
        "trusted": cargo.trusted,
        "count": written.count,
        "volumes": [
            {
                "number": volume.number,
                "folder": str(volume.folder),
                "bytes": volume.share,
                "written": volume.written,
                "kept": volume.kept,
                "mended": list(volume.mended),
            }
            for volume in written.volumes
        ],
    }
