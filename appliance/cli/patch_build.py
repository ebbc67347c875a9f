"""``appliance patch build``: a bundle that carries only what another one lacks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result, progress
from appliance.cli.options import AsJson, StoreFolder  # noqa: TC001 - Typer reads them at run time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.bundle.patch.holdings import Holdings
    from appliance.bundle.patch.result import BuiltPatch

#: Files named one by one for people; ``--json`` names all.
_SHOWN = 60


def build(
    *,
    base: Annotated[
        list[Path],
        typer.Option(
            "--from",
            metavar="INVENTORY|DIR",
            help="What is there: a node's exported inventory, or its bundle (each volume).",
        ),
    ],
    to: Annotated[list[Path], typer.Option("--to", metavar="DIR", help="The bundle to lead to.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The new folder.")],
    bytes_of: Annotated[
        list[Path] | None,
        typer.Option(
            "--base",
            metavar="DIR",
            help="With an inventory: the node's bundle, for its bytes (each volume).",
        ),
    ] = None,
    store: StoreFolder = None,
    inventory: Annotated[
        Path | None,
        typer.Option("--inventory", "-i", help="The site whose known_hosts says who signed the inventory."),
    ] = None,
    parity: Annotated[
        int, typer.Option("--parity", min=0, max=10, help="Recovery data of the patch, in percent.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a patch: a bundle that makes of what is there the one you name.

    Files that are there already do not travel. Of those that changed, the
    bytes that are the same are named, and the others packed against what lies
    in their place; new packages travel as they are. What each file costs, and
    why, is told. Two holders of the role patch sign it as any other bundle.

    With a node's inventory, the old bytes are taken from its bundle (--base),
    or from the content store, as far as they are there.

    \b
    Examples:
      appliance patch build --from demo-1 --to demo-2 --out demo-1-to-2
      appliance patch build --from gpu-01.inventory.json --base demo-1 --to demo-2 --out p -i my-site
      appliance sign demo-1-to-2 --key carol --role patch
      appliance verify demo-1-to-2 --trust root.1.json --role patch

    \b
    Exit codes:
      2  the folder exists already, or options that do not go together
      4  a bundle breaks the format or is damaged, or the inventory is not its node's
      5  nothing is saved, the bundle is no later one, or the disk is full
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.parity.creating import parity_companion
    from appliance.bundle.patch.building import build_patch
    from appliance.bundle.sbom.document import add_sbom
    from appliance.errors import Usage

    with ExitStack() as stack:
        if base[0].is_file():
            holdings = _of_inventory(stack, base, bytes_of, store, inventory)
        elif bytes_of or inventory:
            raise Usage(
                "only a node's inventory is read together with its bundle or its site",
                found=f"--{'base' if bytes_of else 'inventory'}, and {base[0]}, which is no file",
                wanted="--from FILE.inventory.json, or --from BUNDLE alone",
            )
        else:
            holdings = _of_bundle(stack, base)
        built = build_patch(
            holdings, to, out, progress=progress(), companions=[add_sbom, parity_companion(parity)]
        )
    print_result(patch_text(built), patch_values(built), as_json=as_json)


def _of_bundle(stack: ExitStack, folders: Sequence[Path]) -> Holdings:
    from appliance.bundle.opening import open_tree
    from appliance.bundle.patch.holdings import bundle_holdings, open_bundle

    return bundle_holdings(open_bundle(stack.enter_context(open_tree(folders))))


def _of_inventory(
    stack: ExitStack,
    files: Sequence[Path],
    folders: Sequence[Path] | None,
    store: Path | None,
    site: Path | None,
) -> Holdings:
    from appliance.bundle.documents import read_plain
    from appliance.bundle.opening import open_tree
    from appliance.bundle.patch.holdings import node_holdings, open_bundle
    from appliance.errors import Usage
    from appliance.node.site import read_inventory
    from appliance.node.status import read_exported
    from appliance.sources.store import Store
    from appliance.trust.node_inventory import MAX_BYTES, parse_inventory

    if len(files) != 1:
        raise Usage(
            "a patch is built against one node", found=f"{len(files)} files", wanted="one inventory"
        )
    judged = read_exported(read_inventory(site), files[0]) if site else None
    found = parse_inventory(judged.data if judged else read_plain(files[0], MAX_BYTES))
    if judged is None or judged.key is None:
        progress().note(
            f"nobody checked that {found.node} signed this inventory: -i SITE with its key does"
        )
    bundle = open_bundle(stack.enter_context(open_tree(folders))) if folders else None
    return node_holdings(found, bundle=bundle, store=Store(store) if store else None)


def patch_text(built: BuiltPatch) -> str:
    """What a patch saves, file by file, for people."""
    from appliance.bundle.media.sizes import size_text

    held = [entry for entry in built.entries if entry.how == "held"]
    rest = sorted(
        (entry for entry in built.entries if entry.how != "held"),
        key=lambda each: (-each.carried, each.path),
    )
    lines = [f"  {'travels':>14}  {'of':>14}  file"]
    lines += [
        f"  {size_text(each.carried):>14}  {size_text(each.size):>14}  {each.path} ({each.why})"
        for each in rest[:_SHOWN]
    ]
    if len(rest) > _SHOWN:
        more = rest[_SHOWN:]
        carried, size = sum(each.carried for each in more), sum(each.size for each in more)
        lines.append(f"  {size_text(carried):>14}  {size_text(size):>14}  {len(more):,} more files")
    if held:
        size = sum(each.size for each in held)
        lines.append(f"  {size_text(0):>14}  {size_text(size):>14}  {len(held):,} files that are there")
    saved = (built.whole_size - built.size) * 1000 // built.whole_size / 1000  # never more than is true
    return "\n".join(
        [
            *lines,
            f"patch        {built.folder}",
            f"sha256       {built.digest}",
            f"from         {built.base.version}, sequence {built.base.sequence}, {built.base.bundle}",
            f"to           {built.version}, {built.makes}",
            f"size         {size_text(built.size)} of {size_text(built.whole_size)}: {saved:.1%} saved",
        ]
    )


def patch_values(built: BuiltPatch) -> dict[str, object]:
    """The same, for programs."""
    from dataclasses import asdict

    return {
        "patch": str(built.folder),
        "digest": built.digest,
        "size": built.size,
        "whole_size": built.whole_size,
        "from": asdict(built.base),
        "to": {"bundle": built.makes, "version": built.version},
        "files": [asdict(entry) for entry in built.entries],
    }
