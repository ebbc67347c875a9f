"""The playbook of the role ``disk_encryption`` alone: before the first installation writes to its places.

A bundle is staged before a playbook runs, and may lie on a volume; so the volume is mounted first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.content import content_root
from appliance.definition.inventory import node_values
from appliance.node.ansible.driver import Playbook, run_playbook

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from appliance.node.ansible.events import PlaybookResult
    from appliance.node.connection import Connection
    from appliance.progress import Progress


def mount_volumes(
    connections: Mapping[str, Connection],
    *,
    folder: Path,
    log: Path,
    progress: Progress,
    check: bool = False,
) -> PlaybookResult:
    """Run it.

    Args:
        connections: by node name.
        folder: private folder for generated files.
        log: where Ansible's own output is added.
        progress: told of every task.
        check: change nothing.
    """
    content = content_root()
    hosts = {
        name: {**connection.ansible(), "appliance_node": node_values(connection.node)}
        for name, connection in connections.items()
    }
    return run_playbook(
        Playbook(content / "playbooks/disks.yml", content / "roles", hosts, {}, check),
        folder=folder,
        log=log,
        progress=progress,
    )
