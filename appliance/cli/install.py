"""``appliance install``: bring nodes to the state a bundle describes, and prove it."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    BundleFolders,
    InventoryFolder,
    OnlyNodes,
    RecordsFolder,
    RevokedFiles,
)

if TYPE_CHECKING:
    from appliance.node.runs import Stage


def install(
    folders: BundleFolders,
    *,
    inventory: InventoryFolder,
    trust: Annotated[
        Path | None,
        typer.Option("--trust", "-t", help="The root file you trust; root.json in the inventory's folder."),
    ] = None,
    fingerprint: Annotated[
        str | None,
        typer.Option("--fingerprint", help="The root's SHA-256, typed from your paper; must match."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Say what would change on the nodes; change nothing.")
    ] = False,
    stage: Annotated[
        str,
        typer.Option("--stage", metavar="STAGE", help="The last stage to run."),
    ] = "record",
    limit: OnlyNodes = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Hash every file again that already lies on the nodes.")
    ] = False,
    statements: Annotated[
        Path | None,
        typer.Option(
            "--statements", metavar="DIR", help="Admissions, permits, waivers, times, enrolments; signed."
        ),
    ] = None,
    revoked: RevokedFiles = None,
    state: RecordsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Install a bundle on the nodes of an inventory, and prove that they are isolated.

    Stages: verify, validate, preflight, stage, plan, apply, qualify, record.
    Nothing on a node changes before verify, validate and preflight have passed
    for all of them. Run the same command again after an interruption: it goes on
    where it stopped. A change that cuts the connection undoes itself.

    Each node remembers what it has seen and never goes back; going back, going on
    past a bundle's date, and beginning anew take a signed statement for that node.

    \b
    Examples:
      appliance install /media/usb/demo -i my-site --trust root.json
      appliance install /media/usb/demo -i my-site --check
      appliance install /media/a /media/b /media/c -i my-site
      appliance install /media/usb/demo -i my-site --stage preflight --limit gpu-01
      appliance install /media/usb/demo -i my-site --statements /media/usb/statements

    \b
    Exit codes:
      3  the inventory is wrong                  4  the bundle must not be used
      5  a node or this station is not ready     6  a node cannot be reached
      7  a node refused a change                 8  a promise is not kept
      9  verified, but past its date
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.roots import load_root
    from appliance.node.install import install as run_install
    from appliance.node.request import Request
    from appliance.node.runs import default_state
    from appliance.node.summary import outcome_text, outcome_values

    site = inventory if inventory.is_dir() else inventory.parent
    request = Request(
        bundle=tuple(folders),
        root=load_root(trust or site / "root.json", fingerprint),
        inventory=inventory,
        state=state or default_state(),
        until=_stage(stage),
        limit=tuple(limit or ()),
        check=check,
        recheck=recheck,
        statements=statements,
        revoked=tuple(revoked or ()),
    )
    outcome = run_install(request, progress=progress())
    print_result(outcome_text(outcome), outcome_values(outcome), as_json=as_json)


def _stage(name: str) -> Stage:
    from appliance.errors import Usage
    from appliance.node.runs import Stage

    try:
        return Stage(name)
    except ValueError:
        raise Usage(
            f"there is no stage {name!r}",
            found=name,
            wanted=", ".join(Stage),
            hint="name the last stage to run",
        ) from None
