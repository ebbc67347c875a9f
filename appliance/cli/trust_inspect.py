"""``appliance trust inspect``: what a document says, who signed it, what is missing."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.cli.trust_options import RootFile  # noqa: TC001 - likewise
from appliance.cli.trust_text import (
    document_lines,
    document_values,
    policy_lines,
    standing_lines,
    standing_values,
)

if TYPE_CHECKING:
    from appliance.trust.root import Root


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The document.")],
    root: RootFile = None,
    signers: Annotated[
        bool,
        typer.Option(
            "--allowed-signers", help="Print only the file that ssh-keygen -Y verify reads; of a root."
        ),
    ] = False,
    pem: Annotated[
        Path | None,
        typer.Option("--pem", metavar="DIR", help="Write a root's ML-DSA keys there, for openssl pkeyutl."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a document says, its fingerprint, who signed it and who is missing.

    A first root is judged by itself: this proves that its holders have their keys, not that they are
    the right ones. Anything else needs --root; without it signatures are counted, not judged. The
    exit code says whether the document is well-formed; whether it counts says "accepted" in --json.

    \b
    Examples:
      appliance trust inspect root.1.json
      appliance trust inspect root.1.json --allowed-signers > allowed_signers
      appliance trust inspect root.2.json --root root.1.json
      appliance trust inspect root.2.json --pem keys
      appliance trust inspect permit.0123456789abcdef.json --root root.2.json
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.ceremony.inspecting import look_into, write_pem
    from appliance.bundle.roots import signers_digest
    from appliance.errors import Usage
    from appliance.trust.allowed_signers import allowed_signers
    from appliance.trust.root import Root

    if signers and as_json:
        raise Usage("--allowed-signers prints a file, not JSON", wanted="one of the two options")
    seen = look_into(file, root)
    document = seen.document
    if not isinstance(document, Root) and (signers or pem):
        raise Usage(f"{file} is no root", wanted="a root for --allowed-signers and --pem")
    if signers and isinstance(document, Root):
        typer.echo(allowed_signers(document), nl=False)
        typer.echo(f"fingerprint of this file: {signers_digest(document)}", err=True)
        return
    if isinstance(document, Root):
        lines, values = _root_lines(document), _root_values(document)
        if pem is not None:
            written = write_pem(document, pem)
            lines += [f"written      {path}" for path in written]
            values["pem"] = [str(path) for path in written]
    else:
        lines = [*document_lines(document, seen.root), f"fingerprint  {seen.digest}"]
        values = {"document": document_values(document), "fingerprint": seen.digest}
    if seen.standing is not None:
        lines += standing_lines(seen.standing)
    elif seen.unjudged:
        lines.append(f"not judged   {seen.unjudged} signatures; name the root with --root")
    values["signatures"] = None if seen.standing is None else standing_values(seen.standing)
    values["unjudged"] = seen.unjudged
    print_result("\n".join(lines), values, as_json=as_json)


def _root_lines(root: Root) -> list[str]:
    from appliance.bundle.roots import signers_digest

    lines = [
        f"root         version {root.version}"
        + (", solo: one person alone can release" if root.solo else ""),
        f"fingerprint  {root.fingerprint}",
        f"signers      {signers_digest(root)} (fingerprint of --allowed-signers)",
        *policy_lines(root),
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
    return lines


def _root_values(root: Root) -> dict[str, object]:
    from appliance.bundle.roots import signers_digest

    return {
        "version": root.version,
        "solo": root.solo,
        "fingerprint": root.fingerprint,
        "allowed_signers_fingerprint": signers_digest(root),
        "policy": {"pq": root.policy.pq, "profile": root.policy.profile},
        "roles": {
            role: {"threshold": rule.threshold, "holders": list(root.holders(role))}
            for role, rule in root.roles.items()
        },
        "keys": {
            keyid: {"holder": entry.holder, "algorithm": entry.key.algorithm, "key": entry.key.fingerprint}
            for keyid, entry in root.keys.items()
        },
    }
