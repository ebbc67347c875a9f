"""``appliance trust sign``: one holder's signature beside a document."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import RootFile, TranscriptFile  # noqa: TC001 - likewise
from appliance.cli.trust_text import document_lines, document_values, standing_lines, standing_values


def sign(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The document: root.2.json, permit.….json …")
    ],
    key: Annotated[
        Path,
        typer.Option(
            "--key", "-k", help="Private key file of either kind, or a .pub file whose key ssh-agent holds."
        ),
    ],
    root: RootFile = None,
    role: Annotated[
        str | None,
        typer.Option("--role", help="The role to sign in; a document has one, found if left out."),
    ] = None,
    *,
    transcript: TranscriptFile = None,
    as_json: AsJson = False,
) -> None:
    """Sign a document; the signature lies beside it, named for holder and key.

    Shows what is signed, then judges the new signature as any verifier will, before it is put in
    its place. Root 1 is signed by its own holders; root N+1 by holders of root N (--root) and its
    own; everything else by those of --root. The key may be in a file, in ssh-agent, on a FIDO
    token, in a PKCS#11 token that ssh-agent holds (ssh-add -s MODULE), or an ML-DSA-87 key file.
    With --transcript the key signs a second time, for the transcript's line.

    \b
    Examples:
      appliance trust sign trust/root.1.json --key ~/.ssh/id_ed25519
      appliance trust sign draft/root.2.json --root trust/root.1.json --key alice.pub
      appliance trust sign draft/root.2.json --root trust/root.1.json --key alice-ml
      appliance trust sign revoked.1.json --root trust/root.2.json --key bob --transcript log.jsonl
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.signing import sign_document
    from appliance.bundle.ceremony.transcripts import begin_log
    from appliance.bundle.post_quantum_keys import open_signer

    signer = open_signer(key)
    log = begin_log(transcript, signer)
    made = sign_document(file, signer, role=role, root=root)
    entry, standing = made.entry, made.standing
    log.add("sign", taken=[file], made=[made.path], holder=entry.holder)
    lines = [
        *document_lines(standing.document),
        f"signed       {made.path}",
        f"holder       {entry.holder}, {entry.key.algorithm} {entry.key.fingerprint}, as {standing.role}",
        *standing_lines(standing),
    ]
    values = {
        "path": str(made.path),
        "document": document_values(standing.document),
        "holder": entry.holder,
        "keyid": entry.key.keyid,
        "key": entry.key.fingerprint,
        **standing_values(standing),
    }
    print_result("\n".join(lines), values, as_json=as_json)
