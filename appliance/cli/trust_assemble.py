"""``appliance trust assemble``: put together what several people signed."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import (  # noqa: TC001 - likewise
    OutFolder,
    RevokedFile,
    RootFile,
    TranscriptFile,
    TranscriptKey,
)
from appliance.cli.trust_text import standing_lines, standing_values


def assemble(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Documents, signatures, or folders: one for each stick."),
    ],
    out: OutFolder,
    root: RootFile = None,
    revoked: RevokedFile = None,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Check that enough people signed, and put documents and signatures into one
    folder.

    Each person signs a copy on a stick of their own; name all copies, or the
    folders they lie in. Several roots are followed one after the other from
    --root; other documents are judged by the newest. Nothing is written
    unless everything counts; who could still sign is said.

    \b
    Examples:
      appliance trust assemble trust/root.1.json --out trust
      appliance trust assemble /media/a /media/b /media/c \\
          --root trust/root.1.json --out trust
      appliance trust assemble draft/root.2.json root.2.bob.3f1c9a2b.sig \\
          --root root.1.json -o trust

    \b
    Exit codes:
      4  signatures are missing (whose, stands there), or one of them is bad
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.assembling import assemble as put_together
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    done = put_together(files, out, root=root, revoked=revoked)
    log.add("assemble", taken=[root] if root else [], made=[path for each in done for path in each.files])
    lines = [
        line for each in done for line in (f"assembled    {each.path}", *standing_lines(each.standing))
    ]
    if not done:
        lines = ["nothing new: there is only the root that is trusted anyway"]
    values = {
        "out": str(out),
        "documents": [
            {
                "path": str(each.path),
                "files": [path.name for path in each.files],
                **standing_values(each.standing),
            }
            for each in done
        ],
    }
    print_result("\n".join(lines), values, as_json=as_json)
