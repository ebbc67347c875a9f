"""``appliance trust revoke``: take back keys and bundles."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import OutFolder, TranscriptFile, TranscriptKey  # noqa: TC001 - likewise
from appliance.cli.trust_text import print_draft


def revoke(
    root: Annotated[
        Path, typer.Option("--root", "-r", metavar="ROOT", help="The root that names of holders are of.")
    ],
    out: OutFolder,
    before: Annotated[
        Path | None,
        typer.Option("--before", metavar="FILE", help="The newest revocation there is; all of it stays."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEYID|NAME", help="A key, or all keys of a holder in this root."),
    ] = None,
    bundle: Annotated[
        list[str] | None, typer.Option("--bundle", metavar="DIGEST|DIR", help="A bundle.")
    ] = None,
    *,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Write the next revocation, to be signed in the role revoke. It can only take away.

    A revoked key's signatures refuse whatever they sign, but older roots. Nothing is ever given
    back. To replace a key, rotate it first; then the name is the new key's: revoke the old by KEYID.

    \b
    Examples:
      appliance trust revoke --root trust/root.2.json --key 3f1c9a2b... --out draft
      appliance trust revoke --root root.2.json --before revoked.1.json --bundle OUT --out draft
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.drafting import revoke as write_revocation
    from appliance.bundle.ceremony.transcripts import begin_log

    log = begin_log(transcript, transcript_key)
    draft = write_revocation(out, root=root, before=before, keys=key or (), bundles=bundle or ())
    log.add("revoke", taken=[root, before] if before else [root], made=[draft.path])
    print_draft(draft, as_json=as_json)
