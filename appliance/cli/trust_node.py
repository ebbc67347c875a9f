"""``appliance trust node``: what the nodes of a site remember."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.cli.console import print_result
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
)

if TYPE_CHECKING:
    from appliance.node.journal import Kept


def node(
    *,
    inventory: InventoryFolder,
    limit: OnlyNodes = None,
    as_json: AsJson = False,
) -> None:
    """Show what nodes remember: journal, root, products, revocations, time. Changes nothing.

    A permit, a waiver or an attested time names a node and its journal, as they are shown here; they
    fit no other node, and no journal that the same node begins later.

    \b
    Examples:
      appliance trust node -i my-site
      appliance trust node -i my-site --limit gpu-01 --json
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.node.asking import read_journals
    from appliance.node.site import load_inventory

    kept = read_journals(load_inventory(inventory), limit or ())
    text = "\n".join(node_text(name, one) for name, one in kept.items())
    print_result(text, {"nodes": {name: node_values(one) for name, one in kept.items()}}, as_json=as_json)


def node_text(name: str, kept: Kept) -> str:
    """One node, for people."""
    lines = []
    if (journal := kept.journal) is None:
        lines.append("no journal: begins with the first installation" if not kept.trouble else "no journal")
    else:
        revoked = journal.revocation
        lines += [
            f"journal     {journal.identity}",
            f"count       {journal.count}"
            + (f", counter {journal.tpm} of the TPM" if journal.tpm is not None else ""),
            f"root        version {journal.root.version}, fingerprint {journal.root.sha256}",
            *(
                f"product     {product} {one.sequence}:{one.digest}"
                for product, one in sorted(journal.products.items())
            ),
            f"revocation  {revoked.serial or 'none'}",
            f"floor       {journal.floor}",
            f"nonces      {len(journal.nonces)} used",
        ]
    if kept.unfinished:
        lines.append("note        a commit was cut off; the next installation carries it through")
    lines += [f"note        {note}" for note in kept.notes]
    if kept.trouble:
        lines.append(f"trouble     {kept.trouble.message}")
    return "\n".join([name, *(f"  {line}" for line in lines)])


def node_values(kept: Kept) -> dict[str, object]:
    """One node, as JSON values."""
    values: dict[str, object] = {
        "installed": kept.was_installed,
        "unfinished": kept.unfinished,
        "notes": list(kept.notes),
        "trouble": kept.trouble.as_dict() if kept.trouble else None,
        "journal": None,
    }
    if (journal := kept.journal) is None:
        return values
    return values | {
        "journal": journal.identity,
        "count": journal.count,
        "root": {"version": journal.root.version, "sha256": journal.root.sha256},
        "products": {
            name: {"sequence": one.sequence, "digest": one.digest} for name, one in journal.products.items()
        },
        "revocation": journal.revocation.serial,
        "floor": journal.floor,
        "nonces": list(journal.nonces),
        "tpm": journal.tpm,
    }
