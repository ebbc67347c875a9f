"""``appliance status``: what runs on the nodes, and what they hold, by their own signed word."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
    OnlyNodes,
)
from appliance.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from appliance.node.status import NodeStatus
    from appliance.trust.node_inventory import HeldCopy, NodeInventory

_DIGITS = 12


def status(
    *,
    inventory: InventoryFolder,
    limit: OnlyNodes = None,
    recheck: Annotated[
        bool, typer.Option("--recheck", help="Read every copy whole, untouched weights too.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write each node's signed inventory there."),
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Without the files: some 40 lines to type, or two QR codes.")
    ] = False,
    read: Annotated[
        list[Path] | None,
        typer.Option("--read", metavar="FILE", help="Ask no node: say what an exported inventory says."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What runs on the nodes, and which bundles they hold. Changes nothing.

    Each node signs what it says with its SSH host key, so that an exported
    inventory can be checked wherever the inventory's known_hosts is, with
    --read. A file is hashed where something touched it since it was staged,
    and remembered otherwise; how many were hashed is told. --recheck hashes
    all. A patch is built against an exported inventory.

    \b
    Examples:
      appliance status -i my-site
      appliance status -i my-site --limit gpu-01 --export /media/stick
      appliance status -i my-site --limit gpu-01 --short --export /tmp/said
      appliance trust show /tmp/said/gpu-01.short.json --qr
      appliance status -i my-site --read gpu-01.short.json

    \b
    Exit codes:
      0  asked, whatever was found        4  an inventory is not its node's
      5  a node cannot say what it holds  6  a node cannot be reached
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.bundle.durable import have_folder, replace_file
    from appliance.node.site import load_inventory, read_inventory, select_nodes
    from appliance.node.status import ask_nodes, read_exported

    if read:
        site = read_inventory(inventory)
        found = [read_exported(site, file) for file in read]
    else:
        site = load_inventory(inventory)
        found = ask_nodes(site, select_nodes(site, tuple(limit or ())), recheck=recheck, short=short)
    written: dict[str, str] = {}
    if export is not None and any(each.inventory for each in found):
        have_folder(export)
        for each in found:
            if each.inventory is not None:
                path = export / f"{each.node}.{'short' if short else 'inventory'}.json"
                replace_file(path, each.data)
                written[each.node] = str(path)
    print_result(status_text(found, written), status_values(found, written), as_json=as_json)
    for each in found:
        if each.trouble:
            raise typer.Exit(each.trouble.exit_code)


def status_text(found: Sequence[NodeStatus], written: Mapping[str, str]) -> str:
    """For people: some lines for each node."""
    lines: list[str] = []
    for each in found:
        if each.inventory is not None:
            lines += _node_lines(each.inventory)
            lines += [f"  {text}" for text in [printable(str(each.waits or ""))] if text]
            lines.append(f"  signed    {each.key or 'by its own key, which nobody pinned'}")
            lines += [f"  written   {written[each.node]}"] if each.node in written else []
        elif each.trouble is not None:
            lines.append(f"{each.node}: {each.trouble.message}")
            lines += [f"  found: {each.trouble.found}"] if each.trouble.found else []
            lines += [f"  do:    {each.trouble.hint}"] if each.trouble.hint else []
    return "\n".join(lines)


def _node_lines(said: NodeInventory) -> Iterator[str]:
    running = said.installed
    yield f"{said.node}: {f'{running.product} {running.version}' if running else 'nothing installed'}"
    yield f"  service   {said.serving}"
    if running:
        yield f"  bundle    {running.bundle[:_DIGITS]}, sequence {running.sequence}"
    if said.journal:
        taken_back = f", revocation {said.journal.revocation}" if said.journal.revocation else ""
        yield f"  root      {said.journal.root}{taken_back}"
    else:
        yield "  root      not known: the node has no sound journal"
    for copy in said.copies:
        yield f"  holds     {_copy_text(copy)}"
        yield from (f"    wrong   {path}: {fault}" for path, fault in sorted(copy.faults.items()))
    yield f"  time      {said.time}, by the node's clock"


def _copy_text(copy: HeldCopy) -> str:
    state = "whole" if copy.whole else f"{copy.wrong} wrong" if copy.complete else "not complete"
    remembered = copy.files - copy.hashed
    return (
        f"{copy.bundle[:_DIGITS]}, {state}: {copy.files:,} files, "
        f"{copy.hashed:,} hashed now, {remembered:,} remembered"
    )


def status_values(found: Sequence[NodeStatus], written: Mapping[str, str]) -> dict[str, object]:
    """For programs."""
    import json

    nodes = []
    for each in found:
        values: dict[str, object] = {"node": each.node, "key": each.key}
        if each.inventory is not None:
            values["inventory"] = json.loads(each.data)
        if each.waits is not None:
            values["pending"] = each.waits.pending
            values["restart"] = list(each.waits.late)
        if each.trouble is not None:
            values["error"] = each.trouble.as_dict()
        if each.node in written:
            values["written"] = written[each.node]
        nodes.append(values)
    return {"nodes": nodes}
