"""``appliance disk mount``: what lies on a node's open volumes is mounted, now and at each start."""

from __future__ import annotations

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson, InventoryFolder, OnlyNodes  # noqa: TC001 - Typer reads them at run time
from appliance.errors import SettingsInvalid


def mount(
    *,
    inventory: InventoryFolder,
    limit: OnlyNodes = None,
    check: bool = typer.Option(False, "--check", help="Change nothing; say what would be changed."),
    as_json: AsJson = False,
) -> None:
    """Mount a node's open volumes where the inventory wants them, now and at each start.

    Makes a file system on a volume that is empty, writes crypttab and fstab,
    and mounts. It is what the installation does first, alone: run it before
    the first installation where /var/lib/appliance lies on a volume, since a
    bundle is staged there. Refused is whatever would hide or end data.

    \b
    Examples:
      appliance disk mount -i my-site --limit gpu-01
      appliance disk mount -i my-site --check

    \b
    Exit codes:
      3  the inventory is wrong, or names no encrypted drive
      6  a node cannot be reached
      7  refused, by a name that docs/disk.md explains: volume-closed,
         hidden-data, other-content, …
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.console import progress
    from appliance.node.apply import judge
    from appliance.node.connection import open_connections
    from appliance.node.mounting import mount_volumes
    from appliance.node.private import private_folder
    from appliance.node.runs import default_state, lock_state
    from appliance.node.site import load_inventory, select_nodes

    site = load_inventory(inventory)
    nodes = [node for node in select_nodes(site, tuple(limit or ())) if node.disks]
    if not nodes:
        raise SettingsInvalid(
            "the inventory names no encrypted drive of these nodes", wanted="disks: below a node"
        )
    state = default_state()
    with lock_state(state), private_folder() as private:
        log = state / f"disks-{site.site}.log"
        log.touch(0o600)
        connections = open_connections(site, nodes, private)
        try:
            result = mount_volumes(connections, folder=private, log=log, progress=progress(), check=check)
        finally:
            for connection in connections.values():
                connection.close()
    judge(result, revert_after=site.revert_after, log=log)
    values = {"nodes": [node.name for node in nodes], "changes": result.changes, "check": check}
    lines = [f"  {change}" for change in result.changes] or ["  everything was as wanted"]
    print_result("\n".join((", ".join(node.name for node in nodes), *lines)), values, as_json=as_json)
