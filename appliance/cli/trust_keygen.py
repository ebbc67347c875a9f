"""``appliance trust keygen``: make an ML-DSA key, which OpenSSH cannot."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time


def keygen(
    file: Annotated[
        Path,
        typer.Option(
            "--ml-dsa-87", metavar="FILE", help="Where to write the private key; FILE.pub beside it."
        ),
    ],
    *,
    comment: Annotated[
        str, typer.Option("--comment", "-C", help="What stands behind the public key.")
    ] = "",
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Do not lock the file; nobody is asked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make an ML-DSA-87 key, for the second signature beside that of an SSH key.

    Asks for a passphrase twice, as ssh-keygen does. FILE is PKCS#8, which openssl reads from 3.5
    on; FILE.pub is one line for --holder. SSH keys are ssh-keygen's business: Ed25519 in a file or
    an agent, P-384 on a token (tokens under PKCS#11 and OpenSSH before 10.1 know no Ed25519).

    \b
    Examples:
      appliance trust keygen --ml-dsa-87 alice-ml -C alice@example
      ssh-keygen -t ed25519 -f alice
      pkcs11-tool --module MODULE --login --keypairgen --key-type EC:secp384r1 --label alice
      ssh-keygen -D MODULE > alice.pub; ssh-add -s MODULE     # then: --key alice.pub
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.post_quantum_keys import ask_new_passphrase, generate_key

    passphrase = b"" if no_passphrase else ask_new_passphrase(file)
    key = generate_key(file, passphrase=passphrase, comment=comment)
    lines = [
        f"private      {file}" + ("" if passphrase else ", not locked by a passphrase"),
        f"public       {file}.pub",
        f"keyid        {key.keyid}",
        f"fingerprint  {key.fingerprint}",
    ]
    values = {
        "private": str(file),
        "public": f"{file}.pub",
        "keyid": key.keyid,
        "fingerprint": key.fingerprint,
        "locked": bool(passphrase),
    }
    print_result("\n".join(lines), values, as_json=as_json)
