"""What nodes remember of what was done to them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.errors import ApplianceError
from appliance.node.patching import switch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.definition.inventory import Inventory
    from appliance.node.connection import Connection


@dataclass(frozen=True)
class NodeHistory:
    """One node's lines, the oldest first, and what it waits for; or why it could not be asked."""

    node: str
    lines: Sequence[Mapping[str, Any]] = ()
    waits: switch.Waits = field(default_factory=switch.Waits)
    trouble: ApplianceError | None = None


def read_histories(inventory: Inventory, limit: Sequence[str]) -> list[NodeHistory]:
    """Ask nodes, all at the same time; one that cannot be asked has its ``trouble`` set.

    Raises:
        InventoryInvalid: there is no such node.
    """
    from appliance.node.connection import open_connections
    from appliance.node.private import private_folder
    from appliance.node.site import select_nodes

    def one(connection: Connection) -> NodeHistory:
        name = connection.node.name
        try:
            found = switch.read_history(connection)
        except ApplianceError as trouble:
            return NodeHistory(name, trouble=trouble)
        finally:
            connection.close()
        return NodeHistory(name, found["history"], found["waits"])

    with private_folder() as private:
        connections = open_connections(inventory, select_nodes(inventory, limit), private)
        with ThreadPoolExecutor(max_workers=min(16, len(connections))) as pool:
            return list(pool.map(one, connections.values()))
