"""``appliance trust admit``: the site lets a bundle onto nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.console import progress
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import OutFolder, TranscriptFile, TranscriptKey  # noqa: TC001 - likewise
from appliance.cli.trust_text import print_draft


def admit(
    bundle: Annotated[
        list[str],
        typer.Argument(
            metavar="BUNDLE|PATCH|DIGEST...",
            help="The folder, each of its volumes, or the bundle's digest.",
        ),
    ],
    out: OutFolder,
    node: Annotated[
        list[str] | None, typer.Option("--node", metavar="NAME", help="A node's name in the inventory.")
    ] = None,
    *,
    every_node: Annotated[
        bool, typer.Option("--every-node", help="Admit it to all nodes of the site.")
    ] = False,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust", "-t", metavar="ROOT", help="Verify the bundle first, signatures and every byte."
        ),
    ] = None,
    product: Annotated[str | None, typer.Option("--product", help="Where only a digest is named.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="Likewise.")] = None,
    sequence: Annotated[int | None, typer.Option("--sequence", min=0, help="Likewise.")] = None,
    transcript: TranscriptFile = None,
    transcript_key: TranscriptKey = None,
    as_json: AsJson = False,
) -> None:
    """Write an admission, to be signed in the role site: this bundle may run on
    these nodes.

    With --trust the bundle is verified before; without, verify it yourself:
    what is admitted is a digest, and nobody looks again whether it was a good
    one. Of a patch, the bundle that it leads to is admitted.

    \b
    Examples:
      appliance trust admit OUT --trust root.1.json --node gpu-01 \\
          --node gpu-02 --out statements
      appliance trust admit /media/a /media/b --every-node --out statements
      appliance trust admit 3f1c... --product demo --version 1.0.0 \\
          --sequence 7 --node gpu-01 -o s
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.drafting import Named, admission, name_outcome, write_draft
    from appliance.bundle.ceremony.transcripts import begin_log
    from appliance.bundle.roots import load_root
    from appliance.bundle.verify import verify_bundle
    from appliance.errors import Usage

    if bool(node) == every_node:
        raise Usage("nothing says which nodes, or two things do", wanted="--node NAME, or --every-node")
    log = begin_log(transcript, transcript_key)
    named = name_outcome(bundle)
    admitted = admission(named, node or (), Named("", product, version, sequence))
    note = "the bundle was not verified here: appliance verify, or --trust"
    if trust is not None:
        verified = verify_bundle(
            [Path(each) for each in bundle],
            load_root(trust, None),
            progress=progress(),
            role="patch" if named.is_patch else "release",
        )
        found = verified.manifest.makes or verified.digest
        if found != admitted.bundle:
            raise Usage("the bundle was exchanged meanwhile", found=found, wanted=admitted.bundle)
        note = f"verified: signed by {', '.join(signer.holder for signer in verified.signers)}"
    notes = [note, "what the patch leads to, not the patch, is admitted"] if named.is_patch else [note]
    draft = write_draft(admitted, out, notes)
    log.add("admit", taken=[trust] if trust else [], made=[draft.path])
    print_draft(draft, as_json=as_json)
