"""Judge captures that lie in files: the one place here that opens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.errors import CaptureUnreadable, InventoryInvalid, Usage
from appliance.frames.cable import cable_of, cards_of
from appliance.frames.judgement import judge_capture
from appliance.frames.pcap import read_frames

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.frames.cable import Cable
    from appliance.frames.judgement import Judged


def judge_files(
    inventory: Inventory, name: str, captures: Sequence[tuple[str, Path]], *, far: Collection[str] = ()
) -> list[Judged]:
    """Judge captures of a node's cards.

    Args:
        inventory: what is allowed.
        name: the node.
        captures: the inventory's word for each card, and the file.
        far: MAC addresses, in lower case, of who else is in the captures.

    Raises:
        InventoryInvalid: the inventory has no such node.
        Usage: the node has no such card.
        CaptureUnreadable: a file cannot be read, or is no whole capture.
    """
    node = node_named(inventory, name)
    for card, _ in captures:
        if card not in cards_of(node):
            raise Usage(
                f"{name} has no card {card}", found=card, wanted=f"one of {', '.join(cards_of(node))}"
            )
    return [
        judge_file(path, cable_of(inventory, node, card), name=str(path), far=far)
        for card, path in captures
    ]


def judge_file(
    path: Path,
    cable: Cable,
    *,
    name: str,
    far: Collection[str] = (),
    first: int = 1,
    growing: bool = False,
) -> Judged:
    """Judge one capture.

    Args:
        path: the file.
        cable: what its card's cable may carry.
        name: what it is called.
        far: MAC addresses of who is not the node.
        first: number of the first frame to judge.
        growing: somebody still writes to it; frames that are not whole yet have yet to come.

    Raises:
        CaptureUnreadable: the file cannot be read, or is no whole capture.
    """
    try:
        with path.open("rb") as file:
            frames = read_frames(file, str(path), growing=growing)
            return judge_capture(frames, cable, name=name, far=far, first=first)
    except OSError as error:
        raise CaptureUnreadable(
            f"{path} cannot be read", found=str(error), wanted="the file of a capture"
        ) from error


def node_named(inventory: Inventory, name: str) -> NodeEntry:
    """A node of an inventory.

    Raises:
        InventoryInvalid: it has no such node.
    """
    try:
        return inventory.node(name)
    except KeyError:
        raise InventoryInvalid(
            f"{inventory.path} has no node {name}",
            found=", ".join(node.name for node in inventory.nodes),
            wanted="the node whose frames were captured",
        ) from None
