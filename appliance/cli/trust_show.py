"""``appliance trust show`` and ``trust read``: a small file through a human channel."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import OutFolder  # noqa: TC001 - likewise


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document, a signature, a public key.")],
    *,
    qr: Annotated[bool, typer.Option("--qr", help="Show it as QR codes on the terminal.")] = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="DIR", help="Write QR codes as pictures there.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="DIR", help="The same, to be printed.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show a small file as lines to be read aloud and typed, or as QR codes.

    Every line has check digits: two wrong digits of a line are always found,
    and which line it is. What does not fit into one code goes into several,
    numbered; scan them in any order. At most 15,345 bytes: a root with many
    ML-DSA keys needs a medium.

    \b
    Examples:
      appliance trust show admission.3f1c9a2b00112233.json
      appliance trust show root.2.alice.3f1c9a2b.sig --qr
      appliance trust show permit.0123456789abcdef.json --svg print --png print
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.showing import show as lines_of
    from appliance.bundle.ceremony.showing import terminal_text, write_pictures

    shown = lines_of(file)
    written = [
        str(path)
        for kind, folder in (("png", png), ("svg", svg))
        if folder is not None
        for path in write_pictures(shown, folder, [kind])
    ]
    text = terminal_text(shown) if qr else "\n".join(shown.lines)
    if written and not qr:
        text = "\n".join(f"written      {path}" for path in written)
    print_result(
        text, {"name": shown.name, "lines": list(shown.lines), "written": written}, as_json=as_json
    )


def read(
    texts: Annotated[
        list[Path],
        typer.Argument(metavar="TEXT...", help="What was typed or scanned; - for standard input."),
    ],
    out: OutFolder,
    *,
    as_json: AsJson = False,
) -> None:
    """Write the file that somebody showed, from what was typed or scanned.

    Names the lines that are wrong or missing. Pictures are for a phone or
    zbarimg to read; the text it gives belongs here, several codes one after
    the other.

    \b
    Examples:
      appliance trust read typed.txt --out statements
      zbarimg -q --raw -Sdisable -Sqrcode.enable *.png | appliance trust read - --out .

    \b
    Exit codes:
      4  a line is wrong or missing; nothing was written
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    import hashlib

    from appliance.bundle.ceremony.showing import read_back, read_text

    given = [sys.stdin.read() if str(path) == "-" else read_text(path) for path in texts]
    path = read_back(given, out)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    values = {"path": str(path), "fingerprint": digest}
    print_result(f"written      {path}\nfingerprint  {digest}", values, as_json=as_json)
