"""``appliance trust permit-drives``: what may be done to drives of one node, to be signed."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import (  # noqa: TC001 - likewise
    Node,
    OutFolder,
    Reason,
    TranscriptFile,
    TranscriptKey,
)
from appliance.cli.trust_statements import write_statement
from appliance.errors import Usage


def permit_drives(  # noqa: PLR0917 - Typer calls it by name
    node: Node,
    act: Annotated[
        Literal["enroll", "reset", "retire"],
        typer.Option("--act", help="What may be done; a reset goes on to enrolment."),
    ],
    drive: Annotated[
        list[str],
        typer.Option(
            "--drive",
            metavar="SERIAL[=VOLUME]",
            help="A drive, and the UUID of the volume that may be lost on it; repeatable.",
        ),
    ],
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="The last second of it, 2026-01-31T12:00:00Z.")
    ],
    reason: Reason,
    out: OutFolder,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Permit an act on drives of one node until a date, so that nobody has to type their serial numbers.
    Signed in the role site, or else release.

    For `disk enroll --permit` and others. To reset or retire a drive, it names
    the volume that may be lost: `disk status` shows its UUID. Once that volume
    is gone the permit is good for nothing, whoever has a copy. To enroll a
    drive, it names none: that drive has to be empty.

    \b
    Examples:
      appliance trust permit-drives --node gpu-01 --act enroll --drive S6CVNG0T1 --drive S6CVNG0T2 \\
          --until 2026-01-31T12:00:00Z --reason "rack 4" -o statements
      appliance trust permit-drives --node gpu-01 --act retire \\
          --drive S6CVNG0T1=6e2c1f0a-93b4-4d58-8a7e-0c1d2e3f4a5b \\
          --until 2026-01-31T12:00:00Z --reason "ticket 4711" -o statements
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.drafting import new_nonce
    from appliance.trust.statements import NOTHING_LOST, DrivePermit

    drives: dict[str, str] = {}
    for one in drive:
        serial, _, volume = one.partition("=") if act != "enroll" else (one, "", NOTHING_LOST)
        if serial in drives:
            raise Usage("a drive is named twice", found=ascii(serial), wanted="each once")
        drives[serial] = volume
    if lacking := [serial for serial, volume in drives.items() if not volume]:
        raise Usage(
            f"it does not say what of {ascii(lacking[0])[1:-1]} may be lost",
            wanted="--drive SERIAL=VOLUME, the UUID that disk status shows",
        )
    statement = DrivePermit(node, act, drives, until, new_nonce(), reason)
    write_statement("permit-drives", statement, out, transcript, transcript_key, as_json=as_json)
