"""Takes a node's baseline at the end of an installation, and keeps it at this station.

What a new baseline takes over from nobody's declaration (an account somebody made, a program somebody
copied) would be right from then on.  So it is compared with the one before, and each difference is told.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from appliance.bundle.durable import replace_file
from appliance.node.audit.asking import ask, state_commands
from appliance.node.audit.baseline import (
    NAME,
    Baseline,
    baseline_bytes,
    declared_digest,
    digest_of,
    parse_baseline,
)
from appliance.node.audit.comparing import compare, what_is_quiet
from appliance.node.audit.state import state_of
from appliance.node.host_data import load_host_data
from appliance.node.runs import now

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.definition.host import Host
    from appliance.definition.inventory import Inventory
    from appliance.node.connection import Connection
    from appliance.node.runs import Identity, Run

#: So many differences are named in a note; all of them stand in the record.
_NAMED: Final = 8


@dataclass(frozen=True)
class Taken:
    """A baseline's bytes; ``taken_over``: what is not as in the one before, as ``subject what``."""

    data: bytes
    taken_over: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """For the operator."""
        if not self.taken_over:
            return ()
        more = len(self.taken_over) - _NAMED
        named = "; ".join(self.taken_over[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
        return (f"not as after the installation before, and right from now on for audits: {named}",)

    def as_dict(self) -> dict[str, object]:
        """For the record."""
        return {"baseline": digest_of(self.data), "taken_over": list(self.taken_over)}


def keep_baseline(
    connection: Connection, identity: Identity, run: Run, state: Path, inventory: Inventory
) -> Taken:
    """Take the baseline of one node, and keep it beside its records.

    Raises:
        NodeUnreachable, PreflightFailed: as ``asking.ask``.
    """
    name = connection.node.name
    before = newest(state, inventory.site, name)
    baseline = take_baseline(connection, identity, inventory)
    data = baseline_bytes(baseline)
    replace_file(run.node(name) / NAME, data)
    return Taken(data, tuple(taken_over(before, baseline, inventory.host)))


def take_baseline(connection: Connection, identity: Identity, inventory: Inventory) -> Baseline:
    """What a node is now."""
    facts = ask(connection, state_commands(), bundle=identity.bundle)
    return Baseline(
        node=connection.node.name,
        bundle=identity.bundle,
        settings=identity.settings,
        declared=declared_digest(inventory, connection.node),
        toolkit=identity.toolkit,
        time=now(),
        container=facts.container,
        mark=(facts.staged or {}).get("mark") or "",
        state=state_of(facts),
    )


def newest(state: Path, site: str, node: str) -> Baseline | None:
    """The last baseline that this station took of a node, whatever became of that run."""
    found = []
    for path in (state / "runs").glob(f"*/{node}/{NAME}"):
        if path.parent.parent.name[13:] == site:
            with contextlib.suppress(OSError, ValueError):
                found.append(parse_baseline(path.read_bytes()))
    return max(found, key=lambda baseline: baseline.time, default=None)


def taken_over(before: Baseline | None, baseline: Baseline, host: Host) -> list[str]:
    """What is not as in an earlier baseline."""
    if before is None:
        return []
    quiet = what_is_quiet(load_host_data(), host)
    found = compare(before.state, baseline.state, quiet=quiet, container=baseline.container)
    return [f"{each.subject} {each.what}" for each in found]
