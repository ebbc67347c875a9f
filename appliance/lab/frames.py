"""Judge what a virtual machine of a lab has sent: its captures, boot by boot, by the inventory."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from appliance.errors import LabFailed, Usage
from appliance.frames.cable import Cable, cable_of
from appliance.frames.files import judge_file, node_named
from appliance.lab import machines
from appliance.lab.places import find_node, node_folder
from appliance.lab.qemu import Disks

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.frames.judgement import Judged
    from appliance.lab.places import Places
    from appliance.lab.plan import Node

_SENT: Final = re.compile(r"([1-9][0-9]*)-([a-z0-9]+)-sent\.pcap")


def judge_node(
    places: Places,
    name: str,
    inventory: Inventory,
    *,
    boots: Collection[int] = (),
    after: Mapping[Path, int] = MappingProxyType({}),
) -> list[Judged]:
    """Judge every frame that a node's interfaces sent, in the order of boots and interfaces.

    Args:
        places: where labs are kept.
        name: a node, or a lab with one node.
        inventory: what is allowed; it has a node of this name.
        boots: numbers of the boots to judge; all if empty.
        after: of some captures, how many frames to pass over.

    Raises:
        LabFailed: no such lab, nothing of it is captured, or not of one of these boots.
        InventoryInvalid: the inventory has no such node.
        Usage: the name names no single node.
        CaptureUnreadable: a capture is damaged.
    """
    lab, node, folder = find_node(places, name)
    if not lab.capture:
        raise LabFailed(
            f"nothing is captured of {node.name}",
            wanted="a lab of virtual machines whose frames are kept",
            hint=f"appliance lab up {lab.name} --machine --capture",
        )
    entry = node_named(inventory, node.name)
    files = captures_of(Disks(node_folder(folder, node.name)).captures, node)
    there = sorted({boot for boot, _, _ in files})
    if missing := sorted(set(boots) - set(there)):
        raise Usage(
            "there is no capture of this boot",
            found=", ".join(map(str, missing)),
            wanted=f"of {', '.join(map(str, there)) or 'none'}",
        )
    # The latest is still written to, unless the machine is off.
    growing = there[-1] if there and machines.is_running(lab, node) else None
    return [
        judge_file(
            path,
            cable_at(inventory, entry, node, purpose),
            name=f"boot {boot}",
            first=after.get(path, 0) + 1,
            growing=boot == growing,
        )
        for boot, purpose, path in files
        if not boots or boot in boots
    ]


def captures_of(folder: Path, node: Node) -> list[tuple[int, str, Path]]:
    """The captures of what a node sent: number of the boot, the interface's purpose, the file."""
    order = [nic.purpose for nic in node.nics]
    names = [(_SENT.fullmatch(path.name), path) for path in folder.iterdir()]
    found = [(int(name[1]), name[2], path) for name, path in names if name]
    return sorted(found, key=lambda each: (each[0], order.index(each[1])))


def cable_at(inventory: Inventory, entry: NodeEntry, node: Node, purpose: str) -> Cable:
    """The cable of a machine's interface; where the inventory has none, nothing may be on it."""
    for number, nic in enumerate(node.nics, 1):
        if nic.purpose != purpose:
            continue
        marks = {nic.mac, f"enp{number}s0", f"0000:{number:02x}:00.0"}
        for interface in entry.interfaces:
            if marks & set(interface.match.as_dict().values()):
                return cable_of(inventory, entry, interface.name)
    return Cable(purpose, {})
