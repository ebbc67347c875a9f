"""``appliance trust propose`` and ``trust rotate``: write the next root, to be signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import OutFolder, TranscriptFile, TranscriptKey  # noqa: TC001 - likewise
from appliance.cli.trust_text import written_lines, written_values

Before = Annotated[Path, typer.Argument(metavar="ROOT", help="The root that the new one is to follow.")]


def propose(
    root: Before,
    out: OutFolder,
    add: Annotated[
        list[str] | None,
        typer.Option("--add", metavar="NAME=KEY.pub[:ROLE,...]", help="A key, or more roles for one."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option("--remove", metavar="NAME|KEYID", help="A holder with all keys, or one key."),
    ] = None,
    threshold: Annotated[
        list[str] | None, typer.Option("--threshold", metavar="ROLE=N", help="Holders needed from now on.")
    ] = None,
    *,
    pq: Annotated[
        str | None, typer.Option("--pq", metavar="off|warn|require", help="Never weaker than before.")
    ] = None,
    profile: Annotated[str | None, typer.Option("--profile", metavar="cnsa", help="Likewise.")] = None,
    solo: Annotated[
        bool | None, typer.Option("--solo/--no-solo", help="Whether one person alone may release.")
    ] = None,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Write the next root, with something changed. It counts when enough people have signed it.

    What is not named stays as it is. Removing comes first: to take a role from somebody, remove and
    add the same key. Thresholds stay, so a holder who leaves may make one impossible: say another.

    \b
    Examples:
      appliance trust propose trust/root.1.json --add dora=dora.pub:release --out draft
      appliance trust propose trust/root.1.json --remove carol --threshold root=2 --out draft
      appliance trust propose trust/root.1.json --add a=a-ml.pub --add b=b-ml.pub --pq warn --out draft
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.proposing import Changes, propose_root
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    changes = Changes(add or (), remove or (), threshold or (), pq, profile, solo)
    written = propose_root(root, out, changes)
    log.add("propose", taken=[root], made=[written.path, written.signers_path])
    print_result("\n".join(written_lines(written)), written_values(written), as_json=as_json)


def rotate(
    root: Before,
    out: OutFolder,
    holder: Annotated[
        list[str],
        typer.Option("--holder", metavar="NAME=NEW.pub", help="Whose key is exchanged, and for which."),
    ],
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Write the next root, with one key exchanged: lost, stolen, or simply old.

    The new key takes the place of that person's key of the same kind, in all its roles. A lost key
    cannot sign; the others can, if they are enough. What a stolen key already signed counts
    until it is revoked: see `appliance trust revoke`.

    \b
    Examples:
      appliance trust rotate trust/root.1.json --holder alice=alice-2.pub --out draft
      appliance trust rotate root.4.json --holder bob=bob.pub --holder bob=bob-ml.pub --out draft
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.proposing import rotate_keys
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    written = rotate_keys(root, out, holder)
    log.add("rotate", taken=[root], made=[written.path, written.signers_path])
    print_result("\n".join(written_lines(written)), written_values(written), as_json=as_json)
