"""``appliance audit``: what on the nodes is not as it was installed."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
    RecordsFolder,
)

_DIGEST_LENGTH = 64


def audit(
    *,
    inventory: InventoryFolder,
    limit: OnlyNodes = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read the whole staged copy, untouched weights too.")
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="SHA256", help="The baseline's digest, from the station that installed."
        ),
    ] = None,
    state: RecordsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Compare nodes with what was installed on them. Changes nothing.

    Routes, rules, listeners, units, users, packages, files, mounts, kernel,
    modules, time, drives: each difference is told as found and wanted. What a
    node was is kept by the station that installed it; on any other, and at a
    node's own console (connection: local), by the node alone, unless
    --baseline says its digest.

    \b
    Examples:
      appliance audit -i my-site
      appliance audit -i my-site --limit gpu-01 --json
      appliance audit -i /root/site --baseline 5d41…

    \b
    Exit codes:
      0  nothing differs                     3  the inventory is wrong
      5  a node cannot be audited            6  a node cannot be reached
      8  something differs (whatever else)
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.node.audit.present import audit_text, audit_values, exit_code
    from appliance.node.audit.run import audit_nodes
    from appliance.node.runs import default_state
    from appliance.node.site import load_inventory, select_nodes

    site = load_inventory(inventory)
    nodes = select_nodes(site, tuple(limit or ()))
    audits = audit_nodes(
        site, nodes, state or default_state(), recheck=recheck, baseline=_digest(baseline, len(nodes))
    )
    print_result(audit_text(audits), audit_values(audits), as_json=as_json)
    raise typer.Exit(exit_code(audits))


def _digest(typed: str | None, nodes: int) -> str | None:
    from appliance.errors import Usage

    if typed is None:
        return None
    digest = typed.strip().lower()
    if len(digest) != _DIGEST_LENGTH or set(digest) - set("0123456789abcdef"):
        raise Usage("--baseline is no SHA-256", found=typed, wanted="64 hexadecimal digits")
    if nodes != 1:
        raise Usage(
            "every node has a baseline of its own",
            found=f"{nodes} nodes",
            wanted="one node for one --baseline",
            hint="name it with --limit",
        )
    return digest
