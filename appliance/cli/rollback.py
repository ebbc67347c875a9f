"""``appliance rollback``: back to the version that ran before, from the node's own copy."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
    RecordsFolder,
    RevokedFiles,
)
from appliance.cli.patch_apply import (  # noqa: TC001 - likewise
    Fingerprint,
    Recheck,
    StatementsFolder,
    TrustedRoot,
    Within,
)


def rollback(
    *,
    inventory: InventoryFolder,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="DIGEST", help="The bundle, or how its digest begins."),
    ] = None,
    trust: TrustedRoot = None,
    fingerprint: Fingerprint = None,
    limit: OnlyNodes = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would change on the nodes; change nothing.")
    ] = False,
    recheck: Recheck = False,
    within: Within = 1800,
    statements: StatementsFolder = None,
    revoked: RevokedFiles = None,
    state: RecordsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the version that ran before.

    A node that waits for the proof of a new version goes back at once, nobody
    has to permit it, and all other nodes are left as they are. If no node waits:
    once a version is proven and recorded, the node's journal lets it go back by a
    permit alone, signed for this very step; without one the command is refused
    and says how to ask for it. It leads to what was installed before, never to a
    newer version, and needs no medium: each node keeps the copy and the
    environment of the version before.

    \b
    Examples:
      appliance rollback -i my-site
      appliance rollback -i my-site --limit gpu-01 --statements /media/usb/statements
      appliance rollback -i my-site --to 3f2a90c1

    \b
    Exit codes:
      3  the inventory is wrong                  4  no permit, or the copy must not be used
      5  no older version to go back to          6  a node cannot be reached
      7  a node refused a change: it stays       8  a promise is not kept: it stays
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import load_root
    from appliance.cli.patch_apply import applied_text, applied_values
    from appliance.node.patching.rollback import roll_back
    from appliance.node.request import Request
    from appliance.node.runs import default_state

    site = inventory if inventory.is_dir() else inventory.parent
    request = Request(
        bundle=(),
        root=load_root(trust or site / "root.json", fingerprint),
        inventory=inventory,
        state=state or default_state(),
        limit=tuple(limit or ()),
        check=check,
        recheck=recheck,
        statements=statements,
        revoked=tuple(revoked or ()),
    )
    done = roll_back(request, progress=progress(), to=to, within=within)
    goes = "would go back" if check else "went back"
    lines = [f"{name}: {goes} from a version that was not proven{ill}" for name, ill in done.undone.items()]
    lines += [f"{name}: left as it is; run the command again if it is to go back too" for name in done.left]
    values: dict[str, object] = {
        "undone": [] if check else list(done.undone),
        "would_be_undone": list(done.undone) if check else [],
        "ill": {name: list(each.ill) for name, each in done.undone.items() if each.ill},
        "left": list(done.left),
    }
    if done.applied is not None:
        lines.append(applied_text(done.applied))
        values |= applied_values(done.applied)
    print_result("\n".join(lines), values, as_json=as_json)
