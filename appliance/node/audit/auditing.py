"""One node's audit, from the question to the conclusion: by its station, or by itself in the same way."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from appliance.node.audit.asking import ask, declared_commands, state_commands
from appliance.node.audit.baseline import choose, parse_baseline
from appliance.node.audit.concluding import conclude

if TYPE_CHECKING:
    from appliance.definition.inventory import Inventory
    from appliance.node.audit.drift import NodeAudit
    from appliance.node.connection import Connection
    from appliance.node.host_data import HostData


def audit_by(
    connection: Connection,
    inventory: Inventory,
    data: HostData,
    *,
    here: bytes | None = None,
    recorded: str = "",
    typed: str | None = None,
    recheck: bool = False,
) -> NodeAudit:
    """Ask one node, choose what to compare with, compare.

    Args:
        connection: to the node.
        inventory: its site.
        data: what the role ``quiet_host`` declares.
        here: the baseline that whoever asks has kept, if anybody has.
        recorded: the digest in the record of whoever asks, or "".
        typed: the digest that the operator brought, if one was.
        recheck: read the whole staged copy.

    Raises:
        NodeUnreachable: it does not answer.
        PreflightFailed: it cannot be asked, or nobody has the baseline whose digest is known.
    """
    started = time.monotonic()
    node = connection.node
    facts = ask(
        connection,
        {**state_commands(), **declared_commands(data)},
        bundle=_bundle(here),
        recheck=recheck,
        send=here is None,
    )
    reference = choose(node.name, here, recorded, typed, facts.text)
    return conclude(facts, reference, inventory, node, data, seconds=round(time.monotonic() - started, 3))


def _bundle(here: bytes | None) -> str | None:
    """Which bundle whoever asks knows to be installed."""
    try:
        return parse_baseline(here).bundle if here else None
    except ValueError:
        return None
