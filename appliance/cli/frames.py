"""``appliance frames``: captures from a real node's switch, judged by the inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import (  # noqa: TC001 - Typer reads them at run time
    AsJson,
    InventoryFolder,
)
from appliance.errors import Usage


def frames(
    node: Annotated[str, typer.Argument(metavar="NODE", help="The node, as the inventory calls it.")],
    captures: Annotated[
        list[str],
        typer.Argument(metavar="CARD=FILE...", help="A card, as the inventory calls it, and its capture."),
    ],
    *,
    inventory: InventoryFolder,
    far: Annotated[
        list[str] | None,
        typer.Option("--far", metavar="MAC", help="Who is not the node: do not judge it; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Judge captures of all that a node sent, by the inventory.

    Capture on the far side of each card: at the switch's port, or by a tap.
    A frame is beyond unless it belongs to a flow of the inventory, answers SSH,
    or is one by which neighbours on the wire find each other. Who else is in
    the capture must be named with --far, or counts as the node.

    \b
    Examples:
      appliance frames gpu-01 mgmt=port7.pcap data=port8.pcap -i my-site
      appliance frames gpu-01 mgmt=port7.pcap -i my-site --far 02:00:00:00:00:aa

    \b
    Exit codes:
      5  a file is no whole capture     8  a frame is beyond what is allowed
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.errors import QualificationFailed
    from appliance.frames.files import judge_files
    from appliance.frames.judgement import text_of, values_of
    from appliance.node.site import read_inventory

    files = [_capture(text) for text in captures]
    judged = judge_files(read_inventory(inventory), node, files, far=[_mac(text) for text in far or ()])
    print_result(text_of(judged), values_of(judged), as_json=as_json)
    if any(each.beyond for each in judged):
        raise typer.Exit(QualificationFailed.exit_code)


def _capture(text: str) -> tuple[str, Path]:
    card, found, file = text.partition("=")
    if not (card and found and file):
        raise Usage("this names no capture", found=text, wanted="CARD=FILE, as in mgmt=port7.pcap")
    return card, Path(file)


def _mac(text: str) -> str:
    from appliance.definition.inventory_values import read_mac

    try:
        return read_mac(text)
    except ValueError as fault:
        raise Usage("--far wants a MAC address", found=text, wanted=str(fault)) from None
