"""``appliance trust``: found a root, and look into one."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_node import node

trust_app = typer.Typer(
    name="trust",
    help="Say whose keys count: found a root, look into one.",
    no_args_is_help=True,
)
trust_app.command("node")(node)


@trust_app.command("init")
def init(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; made if it is not there.")],
    holder: Annotated[
        list[str], typer.Option("--holder", metavar="NAME=KEY.pub", help="A holder and their public key.")
    ],
    threshold: Annotated[
        list[str] | None,
        typer.Option("--threshold", metavar="ROLE=N", help="Holders needed; more than half if left out."),
    ] = None,
    solo: Annotated[
        bool, typer.Option("--solo", help="Let one person alone release. Every report says so.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Found a root: version 1, in which every holder counts for the roles root and release.

    Writes root.1.json, and root.1.allowed_signers for reviewers who use stock tools. Print both
    fingerprints on paper and hand them over in person: everything else rests on them.

    \b
    Examples:
      appliance trust init --holder alice=alice.pub --holder bob=bob.pub --out trust
      appliance trust init --holder a=a.pub --holder b=b.pub --holder c=c.pub --threshold root=3 -o trust
      appliance trust init --holder alice=alice.pub --solo --out trust
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import found_root

    founded = found_root(out, holder, threshold or [], solo=solo)
    root = founded.root
    needed = ", ".join(
        f"{role} {rule.threshold} of {len(root.holders(role))}" for role, rule in root.roles.items()
    )
    lines = [
        f"root         {founded.path}",
        f"fingerprint  {root.fingerprint}",
        f"signers      {founded.signers_path}",
        f"fingerprint  {founded.signers_digest}",
        f"holders      {', '.join(root.holders('release'))}",
        f"needed       {needed}",
    ]
    if solo:
        lines.append("note         solo: one person alone can release")
    values: dict[str, object] = {
        "root": str(founded.path),
        "fingerprint": root.fingerprint,
        "allowed_signers": str(founded.signers_path),
        "allowed_signers_fingerprint": founded.signers_digest,
        "holders": list(root.holders("release")),
        "thresholds": {role: rule.threshold for role, rule in root.roles.items()},
        "solo": root.solo,
    }
    print_result("\n".join(lines), values, as_json=as_json)


@trust_app.command("inspect")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="ROOT", help="The root file.")],
    signers: Annotated[
        bool, typer.Option("--allowed-signers", help="Print only the file that ssh-keygen -Y verify reads.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show whose keys a root enrols, for which roles, and its fingerprint.

    \b
    Examples:
      appliance trust inspect root.1.json
      appliance trust inspect root.1.json --allowed-signers > allowed_signers
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import load_root, signers_digest
    from appliance.errors import Usage
    from appliance.trust.allowed_signers import allowed_signers
    from appliance.trust.root import parse_root

    if signers and as_json:
        raise Usage("--allowed-signers prints a file, not JSON", wanted="one of the two options")
    root = parse_root(load_root(file, None))
    if signers:
        typer.echo(allowed_signers(root), nl=False)
        typer.echo(f"fingerprint of this file: {signers_digest(root)}", err=True)
        return
    lines = [
        f"root         version {root.version}"
        + (", solo: one person alone can release" if root.solo else ""),
        f"fingerprint  {root.fingerprint}",
        f"signers      {signers_digest(root)} (fingerprint of --allowed-signers)",
    ]
    for role, rule in root.roles.items():
        lines.append(
            f"{role:<12} {rule.threshold} of {len(root.holders(role))}: {', '.join(root.holders(role))}"
        )
    for keyid, entry in root.keys.items():
        lines += [
            f"{entry.holder:<12} {entry.key.algorithm} {entry.key.fingerprint}",
            f"{'':<12} keyid {keyid}",
        ]
    values: dict[str, object] = {
        "version": root.version,
        "solo": root.solo,
        "fingerprint": root.fingerprint,
        "allowed_signers_fingerprint": signers_digest(root),
        "roles": {
            role: {"threshold": rule.threshold, "holders": list(root.holders(role))}
            for role, rule in root.roles.items()
        },
        "keys": {
            keyid: {"holder": entry.holder, "algorithm": entry.key.algorithm, "key": entry.key.fingerprint}
            for keyid, entry in root.keys.items()
        },
    }
    print_result("\n".join(lines), values, as_json=as_json)
