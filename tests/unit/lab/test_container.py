"""How a node is booted, as data."""

from __future__ import annotations

from pathlib import Path

from appliance.lab.container import boot_command, cable_command, mount_commands
from appliance.lab.plan import Lab

LAB = Lab("ward", 7, 1, "0123456789", (4, 4026531840), Path("/cache/abc/root"))
NODE = LAB.nodes[0]
FOLDER = Path("/labs/ward/nodes/ward-01")


def test_nothing_mounted_for_a_node_shows_outside() -> None:
    assert mount_commands(LAB.root, FOLDER)[0] == ["mount", "--make-rslave", "/"]


def test_the_cached_root_is_only_the_lower_layer() -> None:
    options = next(command for command in mount_commands(LAB.root, FOLDER) if "overlay" in command)[4]
    assert options == f"lowerdir=/cache/abc/root,upperdir={FOLDER}/upper,workdir={FOLDER}/work"


def test_the_node_gets_the_cable_whose_address_the_inventory_names() -> None:
    command = cable_command(NODE, 4711)
    inner, outer = command[: command.index("peer")], command[command.index("peer") :]
    assert inner[inner.index("address") + 1] == NODE.mac
    assert outer == ["peer", "name", "alab-7-11", "netns", "4711"]
    assert "--network-interface=host0" in boot_command(NODE, FOLDER)


def test_nothing_of_the_host_enters_the_node() -> None:
    command = boot_command(NODE, FOLDER)
    assert not [
        part for part in command if part.startswith(("--bind", "--network-veth", "--private-users=p"))
    ]
    assert {"--settings=no", "--resolv-conf=off", "--timezone=off", "--link-journal=no"} <= set(command)
