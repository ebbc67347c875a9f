"""``appliance sign``: add one holder's signature to a bundle."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson, BundleFolders  # noqa: TC001 - Typer reads them at run time


def sign(
    folders: BundleFolders,
    key: Annotated[
        Path,
        typer.Option("--key", "-k", help="Private key file, or a .pub file whose key ssh-agent holds."),
    ],
    role: Annotated[str, typer.Option("--role", help="The role to sign in.")] = "release",
    holder: Annotated[
        str | None,
        typer.Option("--holder", help="The key's holder; found in the bundle's root if left out."),
    ] = None,
    *,
    no_provenance: Annotated[
        bool, typer.Option("--no-provenance", help="Do not state what the bundle was built from.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add one holder's signature to a bundle.

    Who has an ML-DSA-87 key too (`appliance trust keygen`) signs twice, once with each key.
    The key is a file, whose passphrase is asked for on the terminal, or in ssh-agent, or on a
    hardware token. Beside the signature goes, as in-toto provenance in DSSE, what the bundle was
    built from; tokens cannot sign that. Signing again replaces what the holder signed before.
    Sign before `appliance media write`; later, all volumes must be there and writable at once,
    since every one of them carries every signature.

    \b
    Examples:
      appliance sign out/demo --key ~/.ssh/id_ed25519
      appliance sign out/demo --key alice.pub              # the private key is in ssh-agent
      appliance sign out/demo --key bob --role release --json
      appliance sign out/demo --key alice.mldsa87          # the second signature, if the root asks
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.sign import sign_bundle

    done = sign_bundle(folders, key, role=role, holder=holder, with_provenance=not no_provenance)
    names = [signer.holder for signer in done.signers]
    lines = [
        f"signed  {done.path}",
        f"bundle  sha256 {done.digest}",
        f"holder  {done.signer.holder}, {done.signer.fingerprint}, as {done.role}",
    ]
    if done.provenance:
        lines.append(f"origin  {done.provenance}")
    elif not no_provenance and not done.signer.post_quantum:
        lines.append("origin  not stated: a key on a token cannot sign provenance")
    if done.threshold is not None:
        enough = "enough" if done.enough else "not enough yet"
        lines.append(f"so far  {len(names)} of {done.threshold} needed ({enough}): {', '.join(names)}")
    lines += [f"spoilt  {problem}" for problem in done.spoilt]
    print_result(
        "\n".join(lines),
        {
            "path": str(done.path),
            "provenance": str(done.provenance) if done.provenance else None,
            "digest": done.digest,
            "role": done.role,
            "holder": done.signer.holder,
            "key": done.signer.fingerprint,
            "signers": names,
            "threshold": done.threshold,
            "enough": done.enough,
            "spoilt": list(done.spoilt),
        },
        as_json=as_json,
    )
