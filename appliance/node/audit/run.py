"""Audits nodes: asks, chooses what to compare with, compares.  Nothing is changed on a node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from appliance.errors import ApplianceError
from appliance.node.audit.auditing import audit_by
from appliance.node.audit.drift import NodeAudit
from appliance.node.audit.kept import kept_here
from appliance.node.host_data import load_host_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.definition.inventory import Inventory, NodeEntry
    from appliance.node.connection import Connection


def audit_nodes(
    inventory: Inventory,
    nodes: Sequence[NodeEntry],
    state: Path,
    *,
    recheck: bool = False,
    baseline: str | None = None,
) -> list[NodeAudit]:
    """Audit nodes, all at the same time; one that cannot be asked has its ``trouble`` set.

    Args:
        inventory: the site.
        nodes: those to audit.
        state: where this station keeps records.
        recheck: read the whole staged copy.
        baseline: SHA-256 of the baseline, from the record of the station that installed.
    """
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder

    with private_folder() as private:
        connections = open_connections(inventory, nodes, private)

        def one(connection: Connection) -> NodeAudit:
            try:
                return audit_node(inventory, connection, state, recheck=recheck, typed=baseline)
            except ApplianceError as trouble:
                return NodeAudit(connection.node.name, trouble=trouble)
            finally:
                connection.close()

        with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
            return list(pool.map(one, connections.values()))


def audit_node(
    inventory: Inventory, connection: Connection, state: Path, *, recheck: bool, typed: str | None
) -> NodeAudit:
    """Audit one node.

    Raises:
        NodeUnreachable: it does not answer.
        PreflightFailed: it cannot be asked, or nobody has the baseline whose digest is known.
    """
    here, recorded = kept_here(state, inventory.site, connection.node.name)
    return audit_by(
        connection,
        inventory,
        load_host_data(),
        here=here,
        recorded=recorded,
        typed=typed,
        recheck=recheck,
    )
