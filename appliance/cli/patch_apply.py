"""``appliance patch apply``: bring nodes to the next version, provably, and with a way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
    RecordsFolder,
    RevokedFiles,
)

if TYPE_CHECKING:
    from appliance.bundle.manifest import Manifest
    from appliance.node.patching.apply import Applied

TrustedRoot = Annotated[
    Path | None,
    typer.Option("--trust", "-t", help="The root file you trust; root.json in the inventory's folder."),
]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", help="The root's SHA-256, typed from your paper; must match."),
]
StatementsFolder = Annotated[
    Path | None,
    typer.Option("--statements", metavar="DIR", help="Admissions, permits, waivers, times; signed."),
]
Recheck = Annotated[
    bool, typer.Option("--recheck", help="Hash every file of the nodes' copies, touched or not.")
]
Within = Annotated[
    int,
    typer.Option(
        "--within",
        metavar="SECONDS",
        min=10,
        max=24 * 3600,
        help="How long a node waits for its proof before it goes back by itself.",
    ),
]


def apply(
    patch: Annotated[
        list[Path],
        typer.Argument(metavar="PATCH...", readable=False, help="The patch's folder (each volume)."),
    ],
    *,
    inventory: InventoryFolder,
    trust: TrustedRoot = None,
    fingerprint: Fingerprint = None,
    limit: OnlyNodes = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would change on the nodes; change nothing.")
    ] = False,
    recheck: Recheck = False,
    within: Within = 1800,
    reboot: Annotated[
        bool,
        typer.Option(
            "--reboot/--no-reboot",
            help="Restart nodes that get a kernel or a driver; without, they wait for whoever does.",
        ),
    ] = True,
    statements: StatementsFolder = None,
    revoked: RevokedFiles = None,
    state: RecordsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Bring nodes from the installed bundle to the one that a patch leads to.

    The patch is verified (role patch), and every node is asked whether it has
    the base, whole: what is lacking is named before anything changes. The new
    version is made beside the one that runs; unchanged files are shared, every
    new one is compared with its signed digest. Then the first node switches
    alone, and the others after it.

    A node that is not proven in time goes back by itself to what ran before,
    also without this station and after a power cut; the reason stands in
    appliance history. Run the same command again after an interruption.
    Nodes that have the patch already are passed over; if all have, nothing is
    done.

    A kernel or a driver counts from the node's next start on. It is installed
    first, while the version before serves; then that is stopped, the node
    restarts, and is proven on what it has loaded. If it is not, packages go
    back too, and the node restarts once more. With --no-reboot it goes on as
    it was until somebody restarts it; then run the same command again.

    \b
    Examples:
      appliance patch apply /media/usb/demo-1-to-2 -i my-site --trust root.json
      appliance patch apply /media/usb/demo-1-to-2 -i my-site --limit gpu-01
      appliance patch apply /media/usb/demo-1-to-2 -i my-site --check
      appliance patch apply p -i my-site --within 600 --no-reboot

    \b
    Exit codes:
      3  the inventory is wrong                  4  the patch, or a file of the base,
      5  another base, or one that lacks            must not be used
         something; not enough room; or it       6  a node cannot be reached, or
         waits for a restart (--no-reboot)          stays away at its restart
      7  a node refused a change: it went back   8  a promise is not kept: it went back
      9  verified, but past its date
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import load_root
    from appliance.node.patching.apply import apply_patch
    from appliance.node.request import Request
    from appliance.node.runs import default_state

    site = inventory if inventory.is_dir() else inventory.parent
    request = Request(
        bundle=tuple(patch),
        root=load_root(trust or site / "root.json", fingerprint),
        inventory=inventory,
        state=state or default_state(),
        limit=tuple(limit or ()),
        check=check,
        recheck=recheck,
        statements=statements,
        revoked=tuple(revoked or ()),
    )
    applied = apply_patch(request, progress=progress(), within=within, reboot=reboot)
    print_result(applied_text(applied), applied_values(applied), as_json=as_json)


def applied_text(applied: Applied) -> str:
    """For people: what a patch of keys alone leaves as it is, and the tables of all groups of nodes."""
    from appliance.node.summary import outcome_text

    lines = [f"{name}: applied already" for name in applied.already]
    if not applied.outcomes:
        manifest = applied.bundle.manifest
        lines.append(f"nothing to do: every node has {manifest.product} {manifest.version} already")
    for name, left in applied.stays.items():
        lines.append(f"{name}: keys alone; {left['version']} (sequence {left['sequence']}) stays installed")
    return "\n".join([*lines, *(outcome_text(outcome) for outcome in applied.outcomes)])


def applied_values(applied: Applied) -> dict[str, object]:
    """For programs: as of an installation; ``changes`` and ``nodes`` are of all groups.

    Where every node had the patch before, what it leads to, and ``already``.
    """
    from appliance.node.summary import outcome_values

    groups = [outcome_values(outcome) for outcome in applied.outcomes]
    first = groups[0] if groups else _leads_to(applied.bundle.manifest)
    values: dict[str, object] = {**first, "already": list(applied.already)}
    if applied.stays:
        values["stays"] = {name: dict(left) for name, left in applied.stays.items()}
    for key in ("changes", "warnings"):
        values[key] = [line for group in groups for line in _lines(group[key])]
    values["nodes"] = {name: each for group in groups for name, each in _nodes(group["nodes"])}
    return values


def _leads_to(patch: Manifest) -> dict[str, object]:
    names = {"product": patch.product, "version": patch.version, "sequence": patch.sequence}
    return {"digest": patch.makes, **names}


def _lines(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _nodes(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if isinstance(value, dict) else []
