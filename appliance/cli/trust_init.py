"""``appliance trust init``: found a root."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import OutFolder, TranscriptFile, TranscriptKey  # noqa: TC001 - likewise
from appliance.cli.trust_text import written_lines, written_values


def init(
    out: OutFolder,
    holder: Annotated[
        list[str],
        typer.Option(
            "--holder",
            metavar="NAME=KEY.pub[:ROLE,...]",
            help="A holder, a public key, the roles it serves.",
        ),
    ],
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="ROLE=N", help="Holders needed; the usual if left out."),
    ] = None,
    *,
    pq: Annotated[
        str | None, typer.Option("--pq", metavar="off|warn|require", help="Ask for ML-DSA signatures too.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option("--profile", metavar="cnsa", help="P-384, ML-DSA-87 and SHA-384 alone.")
    ] = None,
    solo: Annotated[
        bool, typer.Option("--solo", help="Let one person alone release. Every report says so.")
    ] = False,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Found a root: version 1, to be signed by its own holders.

    Without roles a key serves root and release; an ML-DSA key stands beside
    its holder's SSH key and serves the same. Roles are root, release, patch,
    revoke, site, time. The usual thresholds: more than half for root, release
    and patch, 2 for revoke, 1 for site and time.

    Writes root.1.json, and root.1.allowed_signers for reviewers who use stock
    tools. Print both fingerprints on paper and hand them over in person:
    everything else rests on them.

    \b
    Examples:
      appliance trust init --holder alice=alice.pub --holder bob=bob.pub \\
          --out trust
      appliance trust init --holder a=a.pub:root,revoke \\
          --holder b=b.pub:root,revoke \\
          --holder c=c.pub:release --holder d=d.pub:release \\
          --holder e=e.pub:site,time --out trust
      appliance trust init --holder a=a.pub --holder a=a-ml.pub \\
          --holder b=b.pub --holder b=b-ml.pub \\
          --pq require --out trust
      appliance trust init --holder alice=alice.pub --solo --out trust
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.proposing import found_root
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    written = found_root(out, holder, threshold or [], pq=pq, profile=profile, solo=solo)
    log.add("init", made=[written.path, written.signers_path])
    print_result("\n".join(written_lines(written)), written_values(written), as_json=as_json)
